"""What a Windows guest is asked, and what is understood of its answers.

The guest is :mod:`harness.testing.windows`, which runs no PowerShell: nothing here was run on
Windows.
"""

from __future__ import annotations

import base64
import io
import re

import pytest

from harness.checks.guest_life import parse_windows
from harness.clock.agents import agent
from harness.core.errors import ProbeError
from harness.core.timebase import Deadline
from harness.guest import powershell, windows
from harness.guest.facts import GuestOs, gather
from harness.guest.kernel_log import look_again, mark
from harness.guest.powershell import LoginShell, PowerShellFrame
from harness.guest.protocol import Completed, Language, LineStream
from harness.testing.windows import MAC, UUID, Windows, WindowsShell, run_powershell


def soon() -> Deadline:
    return Deadline.after(20)


def test_facts_are_what_windows_tells():
    """As of any guest; the interpreter is PowerShell."""
    facts = gather(WindowsShell(Windows()), soon())
    assert (facts.os, facts.kernel, facts.uid) == (GuestOs.WINDOWS, "Windows 10.0.20348", 0)
    assert (facts.interpreters, facts.time_daemon) == (("powershell",), "w32time")
    assert (facts.machine.uuid, facts.machine.macs) == (UUID.lower(), {MAC.lower()})
    assert facts.machine.ssh_address == "192.0.2.9"
    assert facts.boot_id.startswith(f"{UUID}-612-")


def test_a_user_who_is_no_administrator_is_not_taken_for_one():
    """Nor is a time service that is stopped taken for a time daemon."""
    facts = gather(WindowsShell(Windows(admin=False, w32time="Stopped")), soon())
    assert (facts.uid, facts.time_daemon) == (1, None)
    assert gather(WindowsShell(Windows(w32time=None)), soon()).time_daemon is None


def test_another_boot_has_another_boot_id():
    """It is made of when the boot's first process was created, which no step of the clock moves."""
    guest = Windows()
    first = gather(WindowsShell(guest), soon()).boot_id
    guest.offset_ns = -5_000_000_000
    assert gather(WindowsShell(guest), soon()).boot_id == first
    guest.boot += 1
    assert gather(WindowsShell(guest), soon()).boot_id != first


@pytest.mark.parametrize(
    ("said", "login"),
    [
        (b"harness-Windows_NT-$env:OS-\r\n", LoginShell.CMD),
        (b"Welcome\r\nharness-Windows_NT-$env:OS- \r\n", LoginShell.CMD),
        (b"harness-%OS%-Windows_NT-\r\n", LoginShell.POWERSHELL),
        (b"harness-%OS%-:OS-\n", None),  # a POSIX shell
        (b"harness-%OS%--\n", None),  # fish
        (b"env: Undefined variable.\n", None),
        (b"", None),
        (b"\xff" * 100, None),
    ],
)
def test_a_login_shell_is_recognised_by_what_it_fills_in(said, login):
    """And not by its words, which are in any language."""
    assert powershell.recognised(said) is login


@pytest.mark.parametrize("login", LoginShell)
def test_no_program_is_ever_an_argument(login):
    """What a login shell is asked to start is one constant, without a character special to it."""
    command = PowerShellFrame(login).command
    assert command == PowerShellFrame(login).command
    assert re.fullmatch(r"(\$input \| )?powershell [A-Za-z0-9+/=\- ]+", command)
    assert len(command) < 8191  # the longest line that cmd takes


def test_the_constant_is_text_for_powershell():
    """UTF-16, as -EncodedCommand takes it."""
    script = base64.b64decode(powershell.WORDS[-1]).decode("utf-16-le")
    assert "OpenStandardInput" in script
    assert script.isascii()


def shown(program: str, questions: bytes = b"", guest: Windows | None = None):
    """(status, output, errors) of a framed program, by its frame's marks."""
    frame = PowerShellFrame()
    out, errors = io.BytesIO(), io.BytesIO()
    said = io.BytesIO(frame.script(program, answers=True) + questions)
    status = run_powershell(guest or Windows(), said, out, errors)
    assert said.read() == b""
    return status, frame.out.within(out.getvalue()), frame.errors.within(errors.getvalue())


def test_a_framed_program_is_answered_within_its_marks():
    """And what follows it on standard input is for the program, to the last byte."""
    status, out, errors = shown(windows.MARK)
    assert (status, out, errors) == (0, b"1041\n", b"")
    status, out, errors = shown(agent("powershell").command, b"h 1\r\nz 2\n")
    assert (status, out) == (0, b"1 hello step probe\n2 what\n")


@pytest.mark.parametrize("program", ["Get-Date", "", "}", "'@", windows.FACTS + "#", "ä" * 9])
def test_a_program_that_is_not_ours_is_not_run(program):
    """The simulator would else show nothing: an answer means that the program came whole."""
    assert shown(program)[:2] == (1, b"")


def test_events_since_the_marker_are_read_and_only_trouble_is_a_stall():
    """By provider and number."""
    guest = Windows()
    shell = WindowsShell(guest)
    log = mark(shell, gather(shell, soon()), soon())
    assert log.marker == "1041"
    guest.events += [
        "1042 Microsoft-Windows-Kernel-General 1 The system time has changed.",
        "1043 vioscsi 129 Reset to device, \\Device\\RaidPort1, was issued.",
        "1044 disk 153 The IO operation was retried.",
        "1045 Service_Control_Manager 7036 I/O error, says a service of its own",
    ]
    boot_id, seen = look_again(shell, log, soon())
    assert boot_id == gather(shell, soon()).boot_id
    assert (len(seen.new_lines), seen.has_gap) == (4, False)
    assert [line.split()[0] for line in seen.stalls] == ["1043", "1044"]


def test_a_log_that_was_cleared_has_a_gap():
    """The event that was the marker is gone."""
    guest = Windows()
    shell = WindowsShell(guest)
    log = mark(shell, gather(shell, soon()), soon())
    guest.events[:] = ["1100 EventLog 104 The System log file was cleared."]
    seen = look_again(shell, log, soon())[1]
    assert (seen.has_gap, len(seen.new_lines)) == (True, 1)
    guest.events[:] = ["3 EventLog 104 The System log file was cleared."]
    assert look_again(shell, log, soon())[1].has_gap


class Says:
    """A PowerShell that answers with one text, whatever it is asked."""

    guest, way = "win1", WindowsShell(Windows()).way
    speaks = Language.POWERSHELL

    def __init__(self, stdout: str, stderr: str = "", returncode: int = 0) -> None:
        self._done = Completed(returncode, stdout, stderr)

    def run(self, command: str, deadline: Deadline, *, check: bool = True) -> Completed:
        return self._done

    def stream(self, command: str, deadline: Deadline) -> LineStream:
        raise NotImplementedError

    def close(self) -> None:
        raise NotImplementedError


@pytest.mark.parametrize(
    "said", ["", "\n\n", "boot_id=1\n", "boot_id=1\nkernel=2\n", "\0\0", "=\n=\n", "windows=1\n"]
)
def test_a_windows_that_does_not_tell_is_refused_with_its_words(said):
    """With what PowerShell said last, and a page to read."""
    with pytest.raises(ProbeError) as refused:
        gather(Says(said, "first\nAccess is denied.\n", 1), soon())
    assert "Access is denied." in str(refused.value)
    assert "docs/how-to/windows.md" in str(refused.value)


@pytest.mark.parametrize("said", ["", "no number", "-1", "1041; exit", "٣", "9" * 30])
def test_a_marker_that_is_no_number_is_none(said):
    """It will be put into a script: only a number may be."""
    facts = gather(WindowsShell(Windows()), soon())
    assert mark(Says(said), facts, soon()).marker is None


def test_what_lives_in_it_is_told_by_pid_and_creation():
    """Process 4 is always there; what is younger than the limit is not long-running."""
    look = parse_windows("\n".join(Windows().answer(windows.LIFE)))
    assert look.sees_all
    assert {name for name in look.processes.values()} == {"System", "wininit.exe", "sqlservr.exe"}
    assert list(look.mounts) == ["C:\\"]
    assert look.connections == {"192.0.2.9:22 → 192.0.2.1:50000"}
    assert look.resets == 3


@pytest.mark.parametrize(
    "text", ["", "now 5", "process 4 x y\nvolume a b c\nnow 1", "process 4\n", "now x\nprocess"]
)
def test_nonsense_about_what_lives_there_is_refused(text):
    """As for Linux."""
    with pytest.raises((ValueError, KeyError, IndexError)):
        parse_windows(text)


@pytest.mark.parametrize("name", ["FACTS", "LIFE", "MARK", "RESYNC", "TIME_SERVICE"])
def test_scripts_are_ascii_and_have_their_brackets(name):
    """As far as can be told without a PowerShell."""
    script = getattr(windows, name)
    assert script.isascii()
    for one, other in ("()", "{}", "[]"):
        assert script.count(one) == script.count(other)
    assert script.count("'") % 2 == 0
