"""The agents themselves, as real processes on this machine: its own clock is the guest's, so the
true offset is known to be nought. Nothing is ever set here."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from contextlib import suppress
from importlib import resources
from pathlib import Path
from typing import Any

import pytest

from harness.checks.guest_life import parse_files
from harness.checks.probes.canary import SHELL_PAGES, shell_pattern
from harness.clock.agents import Ability, agent
from harness.clock.foreseen import ForeseenStep
from harness.clock.sampling import Sampler
from harness.core.errors import ProbeError
from harness.core.timebase import SYSTEM_CLOCK, Deadline
from harness.guest.facts import GuestFacts
from harness.guest.machine import known_uuid
from harness.guest.protocol import Looked

FACTS = GuestFacts("id", "6.1", "tsc", 0, ("python3", "perl", "sh"), None)
SHELLS = {"sh": "sh", "busybox": "busybox sh", "bash": "bash"}
PROGRAMS = ["python3", "perl", *SHELLS]
SH_PROGRAMS = (
    "clock/agents/sh_agent.sh",
    "guest/in_sh/looks.sh",
    "checks/probes/programs/watch.sh",
)
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class Local:
    """A GuestShell and a LineStream on a process of this machine."""

    guest = "here"

    def __init__(self, shell: str = "sh", wrapped: tuple[str, ...] = ()) -> None:
        self._shell = shell
        self._wrapped = wrapped
        self.process: subprocess.Popen | None = None

    def stream(self, command, deadline):
        command = command.replace("exec sh -c", f"exec {self._shell} -c", 1)
        self.process = subprocess.Popen(
            [*self._wrapped, "sh", "-c", command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=0,
        )
        return self

    def ask(self, line, deadline):
        sent_ns = SYSTEM_CLOCK.monotonic_ns()
        self.process.stdin.write(line.encode() + b"\n")
        answer, received_ns = self.listen(deadline)
        return sent_ns, answer, received_ns

    def listen(self, deadline):
        line = self.process.stdout.readline()
        if not line:
            raise ProbeError("the remote loop ended", guest=self.guest)
        return line.decode().removesuffix("\n"), SYSTEM_CLOCK.monotonic_ns()

    def close(self):
        if self.process is not None:
            self.process.stdin.close()
            self.process.wait(10)
            self.process.stdout.close()
            self.process = None


@pytest.fixture
def start():
    """``start(program)`` opens a sampler whose agent runs in it."""
    opened = []

    def run(program: str, wrapped: tuple[str, ...] = ()) -> Sampler:
        name = SHELLS.get(program, program)
        if shutil.which(name.split()[0]) is None:
            pytest.skip(f"no {name} on this machine")
        shell: Any = Local(name, wrapped)
        opened.append(shell)
        interpreter = program if program in ("python3", "perl") else "sh"
        return Sampler.open(shell, FACTS, Deadline.after(30), interpreters=(interpreter,))

    yield run
    for shell in opened:
        shell.close()


@pytest.mark.parametrize("program", PROGRAMS)
def test_the_truth_is_within_what_each_agent_leads_us_to_state(start, program):
    """Offset nought, CLOCK_MONOTONIC too; read many times."""
    sampler = start(program)
    for _ in range(5):
        reading = sampler.read(4, Deadline.after(30))
        assert abs(reading.offset_s) <= reading.uncertainty_s + 1e-6
        if sampler.precise:  # else /proc/uptime, which is CLOCK_BOOTTIME
            assert abs(reading.monotonic_s) <= reading.monotonic_uncertainty_s + 1e-6


@pytest.mark.parametrize("program", PROGRAMS)
def test_each_agent_survives_questions_it_does_not_know(start, program):
    """A newer harness, or noise: the next question is answered all the same."""
    sampler = start(program)
    for question in ("z", "x", "zz"):
        assert sampler._ask(question, Deadline.after(30), "7 8").text == "what"
    assert sampler.read(1, Deadline.after(30)).uncertainty_s < 1


#: What takes the right to set clocks from a process; the last shows all capabilities, and has none.
WITHOUT_RIGHT = {
    "no root": ("setpriv", "--reuid", "65534", "--clear-groups"),
    "container": ("setpriv", "--bounding-set", "-sys_time", "--inh-caps", "-sys_time"),
    "user namespace": ("unshare", "--user", "--map-root-user"),
}


def works(*command: str) -> bool:
    """Whether this machine lets this user run it."""
    return bool(shutil.which(command[0])) and not subprocess.run([*command, "true"]).returncode


@pytest.mark.parametrize("how", WITHOUT_RIGHT)
@pytest.mark.parametrize("program", PROGRAMS)
def test_who_may_not_set_the_clock_is_told_so_beforehand(start, program, how):
    """By the kernel, which is asked by a change that changes nothing; with what can be done."""
    wrapped = WITHOUT_RIGHT[how]
    if not works(*wrapped):
        pytest.skip(f"no {wrapped[0]} for this user on this machine")
    sampler = start(program, wrapped)
    with pytest.raises(ProbeError, match="may not be set by this user") as caught:
        sampler.expect_right(Deadline.after(30))
    assert "CAP_SYS_TIME" in (caught.value.hint or "")


@pytest.mark.parametrize("program", ["python3", "perl"])
def test_who_may_set_the_clock_is_told_nothing(start, program):
    """And the kernel's discipline of the clock is what it was."""
    if not works("setpriv", "--inh-caps", "+sys_time"):
        pytest.skip("this user may not set clocks")
    start(program).expect_right(Deadline.after(30))


SECOND = 1_000_000_000


@pytest.mark.parametrize("window_s", [(-5, -4), (4, 5), (1, -1)], ids=["later", "before", "never"])
@pytest.mark.parametrize("program", ["python3", "perl"])
def test_a_foreseen_step_is_not_made_by_a_clock_that_is_not_as_foreseen(start, program, window_s):
    """The answer is a reading of the clock, which is right here, and was not set."""
    sampler = start(program)
    assert Ability.FORESEEN in sampler.abilities
    lowest, highest = (one * SECOND for one in window_s)
    told, since = sampler.step_foreseen(
        ForeseenStep(3600 * SECOND, lowest, highest), Deadline.after(30)
    )
    assert since is None
    assert abs(told.offset_ns) <= told.uncertainty_ns + 1000
    reading = sampler.read(4, Deadline.after(30))
    assert abs(reading.offset_s) <= reading.uncertainty_s + 1e-6


@pytest.mark.parametrize("program", ["python3", "perl"])
def test_a_foreseen_step_that_the_kernel_refuses_is_told_as_any_other(start, program):
    """By a user who may not set clocks; its clock is as foreseen."""
    if not works(*WITHOUT_RIGHT["no root"]):
        pytest.skip("this user is no other")
    sampler = start(program, WITHOUT_RIGHT["no root"])
    step = ForeseenStep(0, -60 * SECOND, 60 * SECOND)
    with pytest.raises(ProbeError, match="the step was refused: EPERM") as caught:
        sampler.step_foreseen(step, Deadline.after(30))
    assert "CAP_SYS_TIME" in (caught.value.hint or "")


@pytest.mark.parametrize("program", SHELLS)
def test_a_shell_says_that_it_makes_no_step_by_what_was_foreseen(start, program):
    """It sets whole seconds, or starts a program that reads the clock once more."""
    sampler = start(program)
    assert Ability.FORESEEN not in sampler.abilities
    assert sampler._ask("f", Deadline.after(30), "1 2 3").text == "what"


@pytest.mark.parametrize("program", PROGRAMS)
def test_the_machines_uuid_is_what_its_firmware_says(start, program):
    """Or nothing, where it says none or not to this user."""
    told = start(program).machine_uuid(Deadline.after(30))
    with suppress(OSError):
        assert told == known_uuid(Path("/sys/class/dmi/id/product_uuid").read_text().strip())
        return
    assert told is None or len(told.replace("-", "")) == 32


@pytest.mark.parametrize("program", ["python3", "perl"])
def test_the_probe_looks_by_itself_and_sees_nothing_where_nothing_is(start, program):
    """Every 50 ms, between questions too."""
    sampler = start(program)
    assert Ability.PROBE in sampler.abilities
    sampler.ensure_probe(Deadline.after(30))
    SYSTEM_CLOCK.sleep(0.3)
    sampler.read(4, Deadline.after(30))
    seen = sampler.end_probe(Deadline.after(30))
    assert seen.looks >= 2
    assert (seen.went_back, seen.monotonic_went_back) == (0, 0)
    assert seen.longest_gap_ns >= 1_000_000
    assert sampler.end_probe(Deadline.after(30)) is None, "it has ended"


@pytest.mark.parametrize("program", ["python3", "perl"])
def test_without_kvm_there_is_no_ptp_clock_to_step_by(start, program, tmp_path):
    """ENODEV, in words; and nothing was set."""
    if any("KVM" in name.read_text() for name in Path("/sys/class/ptp").glob("*/clock_name")):
        pytest.skip("this machine has one, and its clock is not ours to set")
    with pytest.raises(ProbeError, match="no step by KVM's PTP clock: ENODEV"):
        start(program).step_to_ptp(0, Deadline.after(30))


@pytest.mark.parametrize("may", ["root", "no root"])
def test_a_shell_that_tells_the_time_itself_reads_no_list_of_all_timers(start, may):
    """Which takes it ten times as long under emulation; a variable that is only called so is not
    believed."""
    who = () if may == "root" else WITHOUT_RIGHT["no root"]
    if who and not works(*who):
        pytest.skip("this user is no other")
    sampler = start("bash", who)
    assert sampler._stream.ask("r 0", Deadline.after(30))[1].split()[1] == "epoch"
    reading = sampler.read(4, Deadline.after(30))
    assert abs(reading.offset_s) <= reading.uncertainty_s
    assert reading.monotonic_s is not None
    lying = start("sh", ("env", "EPOCHREALTIME=12.345678"))
    assert lying._stream.ask("r 0", Deadline.after(30))[1].split()[1] != "epoch"


def with_date(start, folder, measured: str) -> tuple[Sampler, Path]:
    """An agent in bash beside a ``date`` that does this when it is measured; and where that is."""
    if shutil.which("bash") is None:
        pytest.skip("no bash on this machine")
    date = folder / "date"
    date.write_text(f'#!/bin/sh\ncase "$*" in\n*seconds*) exit 1 ;;\n*@0*) {measured} ;;\nesac\n')
    date.chmod(0o755)
    return start("bash", ("env", f"PATH={folder}:{os.environ['PATH']}")), date


def test_a_shell_that_was_kept_waiting_once_does_not_take_that_for_what_date_takes(start, tmp_path):
    """A clock would be set so much too early: other guests boot beside it, or it starts cold."""
    sampler, date = with_date(start, tmp_path, '[ -e "$0.warm" ] || { : >"$0.warm" && sleep 1; }')
    assert Ability.STEP not in sampler.abilities
    assert date.with_name("date.warm").exists()
    assert 0 < sampler.date_latency_s < 1


def test_what_date_takes_is_measured_again_when_the_guest_is_less_busy(start, tmp_path):
    """While sixty guests are logged in to it takes each ten times as long: 30 ms too early."""
    sampler, date = with_date(start, tmp_path, '[ -e "$0.idle" ] || sleep 0.5')
    assert sampler.date_latency_s >= 0.5
    date.with_name("date.idle").touch()
    sampler.measure_date(Deadline.after(60))
    assert 0 < sampler.date_latency_s < 0.5
    date.with_name("date.idle").unlink()
    sampler.measure_date(Deadline.after(60))
    assert 0 < sampler.date_latency_s < 0.5, "the least counts: a guest is busy at times"


@pytest.mark.parametrize("program", SHELLS)
def test_a_shell_looks_around_beside_the_clock(start, program):
    """Many lines, and how it ended; its own input is no one's else."""
    sampler, soon = start(program), Deadline.after(30)
    assert sampler.looks_around
    life = sampler.look("life", soon)
    assert life.returncode in (0, 2), "grep says 2 of a process that has just ended"
    assert parse_files(life.lines).sees_all
    key = "00" * 32
    assert sampler.look(f"fill {key} {SHELL_PAGES}", soon) == Looked((), 0)
    digest = hashlib.sha256(shell_pattern(key)).hexdigest()
    assert sampler.look("digest", soon).lines[0].split()[0] == digest
    assert sampler.look("log", soon).lines[0] == BOOT_ID.read_text().strip()
    assert sampler.read(1, soon).uncertainty_s < 1


def test_a_mark_that_cannot_be_made_is_told_by_its_status(start):
    """By a user who may not write to the kernel log."""
    if not works(*WITHOUT_RIGHT["no root"]):
        pytest.skip("this user is no other")
    seen = start("sh", WITHOUT_RIGHT["no root"]).look("mark harness: x", Deadline.after(30))
    assert seen.lines == ()
    assert seen.returncode != 0


@pytest.mark.parametrize(
    ("command", "programs"),
    [
        (("perl", "-wc"), ("clock/agents/perl_agent.pl",)),
        (("sh", "-n"), SH_PROGRAMS),
        (("bash", "-n"), SH_PROGRAMS),
    ],
)
def test_programs_in_other_languages_are_sound(command, programs):
    """Every line of them, also those that no test comes to."""
    if shutil.which(command[0]) is None:
        pytest.skip(f"no {command[0]}")
    for program in programs:
        file = resources.files("harness").joinpath(program)
        done = subprocess.run(
            [*command, str(file)], capture_output=True, text=True, timeout=30, check=False
        )
        said = done.stderr.removesuffix(f"{file} syntax OK\n")
        assert (done.returncode, said) == (0, ""), program


def test_an_agent_ends_with_its_input():
    """No process is left in a guest whose connection is gone."""
    for program in ("python3", "perl", "sh"):
        if shutil.which(program) is None:
            continue
        done = subprocess.run(
            ["sh", "-c", agent(program).command],
            input="h 1\n",
            capture_output=True,
            text=True,
            timeout=30,
        )
        assert done.stdout.startswith("1 hello ")
        assert done.returncode == 0
