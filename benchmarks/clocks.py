"""How right a clock gets, how fast, and what others make of the same guest in the same run.

    make bench-clocks
    scripts/in-namespace .venv/bin/python -P -m benchmarks.clocks [--write]

``--write`` puts the tables into docs/reference/clocks.md.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from benchmarks import document
from harness.clock.correction import correct
from harness.clock.foreseen import Foreseen
from harness.clock.policy import CorrectionPolicy
from harness.core.config import load
from harness.core.fanout import fan_out
from harness.core.records import ClockReading
from harness.core.settings import Config
from harness.core.timebase import NS_PER_S, SYSTEM_CLOCK, Deadline, Stopwatch
from harness.guest.connector import SshConnector
from harness.host.driver import LibvirtHypervisor
from harness.host.protocol import Call
from harness.lab import guests as labs
from harness.lab.specs import GuestSpec
from harness.lab.state import LabState
from harness.maintenance.correction_queue import CorrectionQueue
from harness.maintenance.guest_access import Login
from harness.maintenance.guest_clock import ClockOutcome, correct_clock
from harness.maintenance.session import GuestSession
from harness.updates.registry import FULL_CONFIG

CORRECTIONS, SHELL_CORRECTIONS, PAUSES, COMPARED = 50, 10, 12, 6
EIGHT = 8
WRONG_S = -3.0
PAUSE_S = 1.0
MEMORY_MIB = 384


@dataclass
class Figures:
    """Many corrections of one kind; milliseconds."""

    residual: list[float] = field(default_factory=list)
    uncertainty: list[float] = field(default_factory=list)
    stale: list[float] = field(default_factory=list)
    contradicted: int = 0
    failed: int = 0

    def cell(self, values: Sequence[float]) -> str:
        """Median (worst)."""
        if not values:
            return "–"
        return f"{statistics.median(values):.2f} ({max(values):.2f}) ms"


class Bench:
    """A lab of Debian guests and one tiny one, and what is measured on it."""

    def __init__(self, lab: LabState, host: LibvirtHypervisor) -> None:
        self._lab = lab
        self._host = host

    def config(self, **clock: object) -> Config:
        """The lab's configuration with settings of [clock]."""
        flags = {f"clock.{key}": value for key, value in clock.items()}
        return load(self._lab.config_file, environment={}, flags=flags, model=FULL_CONFIG).config

    def session(self, name: str, interpreter: str, **clock: object) -> GuestSession:
        """A login whose clock agent runs in this interpreter."""
        deadline = Deadline.after(90)
        info = self._host.find(name, deadline)
        config = self.config(interpreters=[interpreter], **clock)
        section = config.for_guest(info.name, info.uuid)
        login = Login(info, section, config.ssh, self._host, SshConnector())
        return GuestSession.open(login, config.clock, deadline)

    def corrections(self, name: str, interpreter: str, count: int, checker: str | None) -> Figures:
        """Set the clock wrong, correct it, and have another program look at it."""
        found = Figures()
        session = self.session(name, interpreter)
        other = self.session(name, checker) if checker else None
        policy = CorrectionPolicy(session.tolerance_s, allow_backward=True)
        deadline = Deadline.after(600)
        for _ in range(count):
            if session.sampler.can_step:
                session.sampler.step(round(WRONG_S * NS_PER_S), deadline)
            else:
                second = SYSTEM_CLOCK.realtime_ns() / NS_PER_S + WRONG_S
                session.sampler.set_second(round(second), deadline)
            mended = correct(session.reach, policy, deadline)
            found.failed += mended.refused is not None
            found.residual.append(abs(mended.after.offset_s) * 1000)
            found.uncertainty.append(mended.after.uncertainty_s * 1000)
            if other is not None:
                again = other.sampler.read(8, deadline)
                apart_s = abs(again.offset_s - mended.after.offset_s)
                allowed_s = again.uncertainty_s + mended.after.uncertainty_s
                found.contradicted += apart_s > allowed_s
        for one in (session, other):
            if one is not None:
                one.close()
        return found

    def pauses(self, names: Sequence[str], interpreter: str, count: int) -> Figures:
        """Pause all of them at once, resume, correct each in its turn, as a run does."""
        found = Figures()
        sessions = {name: self.session(name, interpreter, allow_backward=True) for name in names}
        for _ in range(count):
            deadline = Deadline.after(120)
            readings = {
                name: session.sampler.read(session.settings.samples, deadline)
                for name, session in sessions.items()
            }
            uuids = {name: session.info.uuid for name, session in sessions.items()}
            paused = everybody(self._host.pause, uuids, deadline)
            SYSTEM_CLOCK.sleep(PAUSE_S)
            resumed = everybody(self._host.resume, uuids, deadline)
            queue = CorrectionQueue(len(sessions))
            calls = {
                name: partial(
                    _correct,
                    session,
                    resumed[name].returned_ns,
                    foreseen(readings[name], paused[name], resumed[name]),
                    queue,
                    deadline,
                )
                for name, session in sessions.items()
            }
            for answer in fan_out(calls, deadline, what="mending").values():
                self._count(answer.get(), found)
        for session in sessions.values():
            session.close()
        return found

    @staticmethod
    def _count(mended: ClockOutcome, found: Figures) -> None:
        end = mended.after_correction
        if end is None or mended.stale_clock_window_s is None:
            found.failed += 1
            return
        found.residual.append(abs(end.offset_s) * 1000)
        found.uncertainty.append(end.uncertainty_s * 1000)
        found.stale.append(mended.stale_clock_window_s * 1000)

    def agent_kib(self, name: str, interpreter: str) -> int:
        """The most memory that the clock agent ever had in the guest."""
        session = self.session(name, interpreter)
        deadline = Deadline.after(30)
        session.sampler.read(8, deadline)
        needle = {"python3": "^python3 -[I]SB", "perl": "^perl -[e]"}[interpreter]
        command = f"for pid in $(pgrep -f '{needle}'); do grep VmHWM /proc/$pid/status; done"
        said = session.shell.run(command, deadline, check=False).stdout.split()
        session.close()
        return max(int(word) for word in said if word.isdecimal())

    def compare(self, name: str, count: int) -> list[list[str]]:
        """What others make of a clock that is 3 s slow."""
        address = next(guest.address for guest in self._lab.guests if guest.name == name)
        ssh = [
            "ssh", "-F", "none", "-i", str(self._lab.identity_file), "-o", "BatchMode=yes",
            "-o", f"UserKnownHostsFile={self._lab.known_hosts}", f"root@{address}",
        ]  # fmt: skip
        virsh = ["virsh", "-c", self._lab.uri]

        def date() -> list[str]:
            return [*ssh, f"date -s @{SYSTEM_CLOCK.realtime_ns() / NS_PER_S:.9f}"]

        def agent() -> list[str]:
            arguments = {"time": SYSTEM_CLOCK.realtime_ns()}
            command = json.dumps({"execute": "guest-set-time", "arguments": arguments})
            return [*virsh, "qemu-agent-command", name, command]

        harness = ["-m", "harness", "clock", "correct", name]
        tools: dict[str, Callable[[], list[str]]] = {
            "`virsh domtime --sync`": lambda: [*virsh, "domtime", name, "--sync"],
            "`virsh domtime --now`": lambda: [*virsh, "domtime", name, "--now"],
            "guest agent, `guest-set-time`": agent,
            "`ssh … date -s @…`": date,
            "`harness clock correct`": lambda: [sys.executable, "-P", *harness],
        }
        return [[title, *self._tool(name, make, count)] for title, make in tools.items()]

    def _tool(self, name: str, make: Callable[[], list[str]], count: int) -> list[str]:
        session = self.session(name, "python3")
        residual, took = [], []
        said = ""
        for _ in range(count):
            deadline = Deadline.after(60)
            before = session.sampler.read(8, deadline)
            session.sampler.step(round((WRONG_S - before.offset_s) * NS_PER_S), deadline)
            watch = Stopwatch()
            done = subprocess.run(make(), capture_output=True, text=True, timeout=60)
            took.append(watch.elapsed_s() * 1000)
            if done.returncode:
                said = f"failed: {done.stderr.strip().splitlines()[-1:]}"
                break
            residual.append(abs(session.sampler.read(8, deadline).offset_s) * 1000)
        session.close()
        cell = Figures().cell
        return [said or cell(residual), cell(took)]


def everybody(
    call: Callable[[str, Deadline], Call], uuids: Mapping[str, str], until: Deadline
) -> dict[str, Call]:
    """The same call for all at once; raises the first error."""
    calls = {name: partial(call, uuid, until) for name, uuid in uuids.items()}
    return {name: answer.get() for name, answer in fan_out(calls, until, what="all").items()}


def foreseen(before: ClockReading, paused: Call, resumed: Call) -> Foreseen:
    """What is known of a clock after a pause, as in a run."""
    shortest_ns = resumed.began_ns - paused.returned_ns
    longest_ns = resumed.returned_ns - paused.began_ns
    return Foreseen(before, shortest_ns / NS_PER_S, longest_ns / NS_PER_S)


def _correct(
    session: GuestSession,
    resumed_ns: int,
    known: Foreseen,
    queue: CorrectionQueue,
    deadline: Deadline,
) -> ClockOutcome:
    waits, heard = not session.sampler.can_step, lambda: session.sampler.heard_ns
    with queue.place(deadline, waits=waits, heard=heard) as place:
        return correct_clock(
            session,
            resumed_ns,
            deadline,
            before=known.before,
            foreseen=known,
            turn=place,
        )


def row(title: str, found: Figures, count: int) -> list[str]:
    """A line of the first table."""
    return [
        title,
        str(count),
        found.cell(found.residual),
        found.cell(found.uncertainty),
        found.cell(found.stale),
        f"{found.contradicted}",
        f"{found.failed}",
    ]


def measure(bench: Bench, eight: Sequence[str]) -> str:
    """All of it, as Markdown."""
    first = eight[0]
    print("corrections", flush=True)
    rows = [
        row(
            f"{interpreter}, {abs(WRONG_S):g} s slow",
            bench.corrections(first, interpreter, CORRECTIONS, checker),
            CORRECTIONS,
        )
        for interpreter, checker in (("python3", "perl"), ("perl", "python3"))
    ]
    shell = bench.corrections("tiny", "sh", SHELL_CORRECTIONS, None)
    rows.append(row(f"busybox sh, {abs(WRONG_S):g} s slow", shell, SHELL_CORRECTIONS))
    print("pauses", flush=True)
    for interpreter in ("python3", "perl"):
        one = bench.pauses([first], interpreter, PAUSES)
        rows.append(row(f"{interpreter}, pause of {PAUSE_S:g} s", one, PAUSES))
    one = bench.pauses(["tiny"], "sh", PAUSES)
    rows.append(row(f"busybox sh, pause of {PAUSE_S:g} s", one, PAUSES))
    if len(eight) == EIGHT:
        many = bench.pauses(eight, "python3", PAUSES)
        rows.append(row(f"python3, {EIGHT} guests at once", many, PAUSES * EIGHT))
    print("comparison", flush=True)
    header = ["", "times", "residual", "uncertainty", "stale for", "contradicted", "failed"]
    compared = document.table(["", "residual", "took"], bench.compare(first, COMPARED))
    sizes = ", ".join(
        f"{bench.agent_kib(first, name) / 1024:.1f} MiB ({name})" for name in ("python3", "perl")
    )
    return "\n\n".join(
        [document.table(header, rows), f"The agent in the guest: {sizes}.", compared]
    )


def main() -> None:
    """Boot, measure, take down."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--guests", type=int, default=EIGHT, help="Debian guests to boot (8)")
    parser.add_argument("--write", action="store_true", help="into docs/reference/clocks.md")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="harness-bench-") as folder:
        os.environ["HARNESS_STATE_DIR"] = folder
        names = [f"debian-{number}" for number in range(1, options.guests + 1)]
        specs = [GuestSpec(name, "debian", memory_mib=MEMORY_MIB) for name in names]
        specs.append(GuestSpec("tiny", "tiny"))
        lab = labs.up(specs, deadline=Deadline.after(600), progress=partial(print, flush=True))
        try:
            host = LibvirtHypervisor.open(lab.uri, Deadline.after(10))
            SYSTEM_CLOCK.sleep(5)  # what a guest still does after its boot
            text = measure(Bench(lab, host), names)
        finally:
            labs.down(print)
    said = (
        f"`make bench-clocks` on {document.machine()}, TCG, {options.guests} Debian guests up. "
        "Median (worst)."
    )
    print(f"{said}\n\n{text}")
    if options.write:
        document.write(document.DOCS / "reference" / "clocks.md", "figures", f"{said}\n\n{text}")


if __name__ == "__main__":
    main()
