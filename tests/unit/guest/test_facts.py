"""What a guest says about itself and its kernel; whatever it answers is data, and may be odd."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.core.errors import ProbeError, ShellUnreachable
from harness.core.timebase import SYSTEM_CLOCK, Deadline
from harness.guest.facts import GuestFacts, gather
from harness.guest.kernel_log import KernelLog, look_again, mark
from harness.guest.protocol import Completed, Language, LineStream, Way
from harness.testing.clock import FakeClock

BOOT_ID = "0f1e2d3c-0000-4000-8000-000000000001"
PLAIN = f"boot_id={BOOT_ID}\nkernel=6.1.0\nclocksource=kvm-clock\nuid=0\n"


class _Unasked:
    """What these tests never ask of a shell."""

    def stream(self, command: str, deadline: Deadline) -> LineStream:
        raise NotImplementedError

    def close(self) -> None:
        raise NotImplementedError


class Shell(_Unasked):
    """A GuestShell whose every command ends as ``answer`` says."""

    guest = "web1"
    way = Way("web1")
    speaks = Language.SH

    def __init__(self, answer: str | Callable[[str], Completed], returncode: int = 0) -> None:
        self.commands: list[str] = []
        self._answer = answer
        self._returncode = returncode

    def run(self, command: str, deadline: Deadline, *, check: bool = True) -> Completed:
        self.commands.append(command)
        assert not check or self._returncode == 0
        if callable(self._answer):
            return self._answer(command)
        return Completed(self._returncode, self._answer, "")


def soon() -> Deadline:
    return Deadline.after(10, FakeClock())


def facts(answer: str) -> GuestFacts:
    return gather(Shell(answer), soon())


def as_user(uid: int) -> GuestFacts:
    return facts(PLAIN.replace("uid=0", f"uid={uid}"))


def here(path: str) -> Callable[[str], Completed]:
    """Runs commands in a real POSIX sh of this machine, with that PATH."""

    def run(command: str) -> Completed:
        done = subprocess.run(
            [shutil.which("sh"), "-c", command],
            capture_output=True,
            text=True,
            env={"PATH": path},
            timeout=30,
        )
        return Completed(done.returncode, done.stdout, done.stderr)

    return run


@pytest.fixture
def tools(tmp_path) -> Path:
    """A folder of tools to be the whole PATH: the few that a small guest has."""
    for name in ("sh", "id", "cat", "sed"):
        (tmp_path / name).symlink_to(shutil.which(name))
    return tmp_path


# -- facts


def test_the_facts_are_read():
    """Each under its own name."""
    found = facts(PLAIN + "has=python3\nruns=systemd\nruns=chronyd\n")
    assert found == GuestFacts(BOOT_ID, "6.1.0", "kvm-clock", 0, ("python3", "sh"), "chronyd")


@pytest.mark.parametrize(
    ("lines", "interpreters"),
    [
        ("", ("sh",)),
        ("has=python3\n", ("python3", "sh")),
        ("has=perl\n", ("perl", "sh")),
        ("has=perl\nhas=python3\n", ("python3", "perl", "sh")),
        ("has=python2\nhas=\n", ("sh",)),
    ],
)
def test_interpreters_are_listed_best_first(lines, interpreters):
    """Only those that an agent exists for; sh is always there."""
    assert facts(PLAIN + lines).interpreters == interpreters


@pytest.mark.parametrize(
    ("comm", "daemon"),
    [
        ("chronyd", "chronyd"),
        ("systemd-timesyn", "systemd-timesyncd"),
        ("ntpd", "ntpd"),
        ("openntpd", "openntpd"),
        ("not-chronyd", None),
        ("chronyd2", None),
        ("", None),
    ],
)
def test_a_time_daemon_is_known_by_its_name(comm, daemon):
    """The kernel cuts names to 15 characters; a name that merely holds it is another."""
    assert facts(PLAIN + f"runs=init\nruns={comm}\n").time_daemon == daemon


@pytest.mark.parametrize(
    "comm",
    ["uid=1000", "boot_id=x", "has=python3", "=", "a=b=c", "x\ruid=1000", "x\x85has=python3"],
)
def test_a_process_name_is_never_taken_for_a_fact(comm):
    """Any user of the guest may call a process what they like, line breaks of Unicode included."""
    assert facts(PLAIN + f"runs={comm}\nruns=init\n") == facts(PLAIN)


@pytest.mark.parametrize("more", [(), ("grep",)], ids=["without grep", "with grep"])
@pytest.mark.parametrize(("name", "daemon"), [("openntpd", "openntpd"), ("openntpd2", None)])
def test_a_time_daemon_is_found_among_real_processes(tools, more, name, daemon):
    """By one process where there is a grep; its name is what it was started by."""
    for tool in (*more, "sleep"):
        (tools / tool).symlink_to(shutil.which(tool))
    (tools / name).symlink_to(shutil.which("sleep"))
    with subprocess.Popen([tools / name, "60"]) as process:
        while Path(f"/proc/{process.pid}/comm").read_text() != f"{name}\n":
            SYSTEM_CLOCK.sleep(0.01)
        found = gather(Shell(here(str(tools))), soon())
        process.kill()
    if found.time_daemon not in (None, "openntpd"):
        pytest.skip(f"this machine runs {found.time_daemon}")
    assert found.time_daemon == daemon


def test_a_greeting_of_the_login_shell_is_passed_over():
    """A .bashrc that talks is common; what it says is no fact."""
    assert facts("Welcome to web1!\n\n*** 3 updates ***\n" + PLAIN) == facts(PLAIN)


def test_what_was_said_counts_and_not_how_it_ended():
    """The script's last step may find nothing, or no tool."""
    assert gather(Shell(PLAIN, returncode=127), soon()) == facts(PLAIN)


def test_a_guest_without_a_clocksource_is_a_guest():
    """Some architectures have no such file."""
    assert facts(PLAIN.replace("clocksource=kvm-clock\n", "")).clocksource is None


@pytest.mark.parametrize(
    "answer",
    [
        "",
        "\n\n",
        "'sh' is not recognized as an internal or external command",
        PLAIN.replace("boot_id", "boot-id"),
        PLAIN.replace("kernel=6.1.0\n", ""),
        PLAIN.replace("uid=0", ""),
        PLAIN.replace("uid=0", "uid="),
        PLAIN.replace("uid=0", "uid=root"),
        "\ufffd" * 100,
    ],
)
def test_what_is_no_linux_is_refused_by_name_with_a_hint(answer):
    """Before anything is paused."""
    with pytest.raises(ProbeError, match=r"^web1: does not tell .*hint: .*Linux guest"):
        facts(answer)


def test_a_shell_that_cannot_be_reached_says_so():
    """Not "no Linux"."""

    def unreachable(command: str) -> Completed:
        raise ShellUnreachable("gone", guest="web1")

    with pytest.raises(ShellUnreachable):
        gather(Shell(unreachable), soon())


def test_one_command_is_enough():
    """A process start is slow under emulation."""
    shell = Shell(PLAIN)
    gather(shell, soon())
    assert len(shell.commands) == 1


def test_the_script_works_in_a_real_shell(tools):
    """On this machine: its boot, its kernel, who we are, and no python3 where there is none."""
    found = gather(Shell(here(str(tools))), soon())
    assert found.boot_id == Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    assert (found.kernel, found.uid) == (os.uname().release, os.getuid())
    assert found.interpreters == ("sh",)
    (tools / "python3").symlink_to("/bin/true")
    assert gather(Shell(here(str(tools))), soon()).interpreters == ("python3", "sh")


def test_the_script_sees_the_processes_of_a_real_machine(tools):
    """A process of ours is found by its name."""
    sleeper = tools / "chronyd"
    shutil.copy(shutil.which("sleep"), sleeper)
    with subprocess.Popen([sleeper, "60"]) as process:
        try:
            assert gather(Shell(here(str(tools))), soon()).time_daemon == "chronyd"
        finally:
            process.kill()


# -- the kernel log


def test_root_leaves_a_line_of_its_own():
    """A new one each time, so that two runs are not confused."""
    shell = Shell("")
    first, second = mark(shell, as_user(0), soon()), mark(shell, as_user(0), soon())
    for log, command in zip((first, second), shell.commands, strict=True):
        assert log.marker in command
        assert "/dev/kmsg" in command
    assert first.marker != second.marker


def test_root_without_a_kernel_log_cannot_mark_it():
    """A container has no /dev/kmsg."""
    assert mark(Shell("", returncode=2), as_user(0), soon()).marker is None


def test_another_user_remembers_the_last_line():
    """And writes nothing."""
    shell = Shell("[ 1.0] a\n[ 2.0] b\n")
    assert mark(shell, as_user(1000), soon()).marker == "[ 2.0] b"
    assert all("/dev/kmsg" not in command for command in shell.commands)


@pytest.mark.parametrize(("said", "returncode"), [("", 1), ("[ 1.0] half", 1), ("", 0), ("\n", 0)])
def test_a_kernel_log_that_cannot_be_read_has_no_marker(said, returncode):
    """``dmesg: read kernel buffer failed``, or a log in which there is nothing to remember."""
    assert mark(Shell(said, returncode), as_user(1000), soon()).marker is None


def test_an_empty_line_is_no_place_to_remember():
    """Every line holds it, so that nothing would ever be new."""
    assert mark(Shell("[ 1.0] a\n[ 2.0] b\n\n"), as_user(1000), soon()).marker == "[ 2.0] b"


def again(said: str, marker: str | None = "mark 1", returncode: int = 0):
    return look_again(Shell(said, returncode), KernelLog(marker), soon())


def test_what_came_after_the_marker_is_new():
    """And only that; the boot id comes along."""
    boot_id, log = again(f"{BOOT_ID}\n[ 1.0] old\n[ 2.0] mark 1\n[ 3.0] new\n[ 4.0] newer\n")
    assert boot_id == BOOT_ID
    assert log == KernelLog("mark 1", ("[ 3.0] new", "[ 4.0] newer"))


def test_nothing_after_the_marker_is_nothing_new():
    """The usual case."""
    assert again(f"{BOOT_ID}\n[ 2.0] mark 1\n")[1] == KernelLog("mark 1", ())


def test_the_last_of_several_markers_counts():
    """A user's marker is a line of the kernel's, which may have said the same before."""
    log = again(f"{BOOT_ID}\nmark 1\na\nmark 1\nb\n")[1]
    assert log.new_lines == ("b",)


def test_a_marker_that_is_gone_makes_every_line_new():
    """The log wrapped, or the guest was rebooted: better too many lines than a stall missed."""
    log = again(f"{BOOT_ID}\n[ 1.0] a\n[ 2.0] soft lockup\n")[1]
    assert log.new_lines == ("[ 1.0] a", "[ 2.0] soft lockup")
    assert log.stalls == ("[ 2.0] soft lockup",)


@pytest.mark.parametrize("said", [f"{BOOT_ID}\n", f"{BOOT_ID}\n[ 2.0] mark 1\n[ 3.0] cut sh"])
def test_a_log_that_could_not_be_read_the_second_time_is_not_an_empty_one(said):
    """No dmesg there, or no right any more: unknown, and never "nothing new"."""
    assert again(said, returncode=1) == (BOOT_ID, None)


def test_without_a_marker_there_is_still_a_boot_id():
    """A reboot is noticed although the log is closed to this user."""
    assert again(f"{BOOT_ID}\n", marker=None, returncode=1) == (BOOT_ID, None)


def test_no_answer_at_all_is_no_boot_id():
    """None, and not an empty one."""
    assert again("", returncode=127) == (None, None)


def test_looking_again_works_in_a_real_shell(tools):
    """Boot id first, then what dmesg prints; its failure is seen in the status."""
    dmesg = tools / "dmesg"
    dmesg.write_text("#!/bin/sh\necho '[ 1.0] mark 1'\necho '[ 2.0] new'\n")
    dmesg.chmod(0o755)
    boot_id = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    shell = Shell(here(str(tools)))
    found = look_again(shell, KernelLog("mark 1"), soon())
    assert found == (boot_id, KernelLog("mark 1", ("[ 2.0] new",)))
    assert mark(shell, as_user(1000), soon()).marker == "[ 2.0] new"
    dmesg.write_text("#!/bin/sh\nexit 1\n")
    assert look_again(shell, KernelLog("mark 1"), soon()) == (boot_id, None)
    dmesg.unlink()
    assert look_again(shell, KernelLog("mark 1"), soon()) == (boot_id, None)


@pytest.mark.parametrize(
    "line",
    [
        "watchdog: BUG: soft lockup - CPU#0 stuck for 23s! [swapper/0:0]",
        "BUG: soft lockup - CPU#3 stuck for 22s!",
        "watchdog: Watchdog detected hard LOCKUP on cpu 1",
        "BUG: workqueue lockup - pool cpus=0 node=0 flags=0x0 nice=0 stuck for 32s!",
        "rcu: INFO: rcu_sched self-detected stall on CPU",
        "rcu: INFO: rcu_preempt detected stalls on CPUs/tasks:",
        "rcu: INFO: rcu_sched detected expedited stalls on CPUs/tasks: { 11-... } 7 jiffies",
        "rcu: rcu_preempt kthread starved for 5250 jiffies! g1 f0x0 RCU_GP_WAIT_FQS(5)",
        "INFO: task jbd2/vda1-8:123 blocked for more than 120 seconds.",
        "clocksource: timekeeping watchdog on CPU0: Marking clocksource 'tsc' as unstable "
        "because the skew is too large:",
        "clocksource: Switched to clocksource acpi_pm",
        "clocksource: 'tsc' skewed 5000000000 ns (5000 ms) over watchdog interval",
    ],
)
def test_a_stall_is_recognised(line):
    """As the kernel words it, with its time stamp before it."""
    assert KernelLog("m", (f"[   99.123456] {line}",)).stalls == (f"[   99.123456] {line}",)


@pytest.mark.parametrize(
    "line",
    [
        "",
        "virtio_net virtio0 eth0: renamed from enp1s0",
        "clocksource: tsc: mask: 0xffffffffffffffff max_cycles: 0x1, max_idle_ns: 1 ns",
        "rcu: Hierarchical RCU implementation.",
        "rcu: RCU calculated value of scheduler-enlistment delay is 25 jiffies.",
        "NMI watchdog: Enabled. Permanently consumes one hw-PMU counter.",
        "hung_task: hung_task_timeout_secs is 120",
        "harness: mark 0123456789abcdef",
    ],
)
def test_what_is_no_stall_is_not_called_one(line):
    """A guest may say a great deal while it is paused and resumed."""
    assert KernelLog("m", (line,)).stalls == ()
