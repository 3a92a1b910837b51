"""Fakes of a guest agent refuse and answer as QEMU's definitions say, on Linux and on Windows."""

from __future__ import annotations

import pytest

from harness.core.errors import CommandFailed, HypervisorError, ProbeError, ShellUnreachable
from harness.core.timebase import Deadline
from harness.guest import windows
from harness.guest.agent_shell import AgentShell
from harness.guest.facts import GuestOs, gather
from harness.guest.protocol import Language
from harness.testing import qga_schema
from harness.testing.guest import FakeGuest
from harness.testing.guest_agent import COMMANDS, FakeAgent


def soon() -> Deadline:
    return Deadline.after(20)


class Channel:
    """The way to the agent of a guest in memory."""

    guest = "web1"

    def __init__(self, guest: FakeGuest) -> None:
        self._agent = FakeAgent(guest)

    def ask(self, command, deadline, arguments=None):
        return self._agent.ask(command, deadline, arguments)


@pytest.fixture
def inside() -> FakeGuest:
    """A guest that has become a Windows."""
    guest = FakeGuest("web1")
    guest.become_windows()
    return guest


def shell(guest: FakeGuest) -> AgentShell:
    return AgentShell.open(Channel(guest), soon())


@pytest.mark.parametrize(
    ("command", "arguments", "error"),
    [
        ("guest-frob", {}, ("CommandNotFound", "The command guest-frob has not been found")),
        ("guest-exec", {}, ("GenericError", "Parameter 'path' is missing")),
        (
            "guest-exec",
            {"path": "x", "args": []},
            ("GenericError", "Parameter 'args' is unexpected"),
        ),
        (
            "guest-exec",
            {"path": "x", "arg": "y"},
            ("GenericError", "Invalid parameter type for 'arg', expected: array"),
        ),
        (
            "guest-exec",
            {"path": "x", "arg": [1]},
            ("GenericError", "Invalid parameter type for 'arg[0]', expected: string"),
        ),
        (
            "guest-exec-status",
            {"pid": True},
            ("GenericError", "Invalid parameter type for 'pid', expected: integer"),
        ),
        ("guest-set-time", {}, None),
        ("guest-set-time", {"time": 1}, None),
    ],
)
def test_a_bad_question_is_refused_in_qemus_words(command, arguments, error):
    """By its class and its words."""
    assert qga_schema.refusal(command, arguments) == error


@pytest.mark.parametrize(
    ("command", "answer"),
    [
        ("guest-get-time", "1"),
        ("guest-get-time", True),
        ("guest-exec", {"pid": "1"}),
        ("guest-exec-status", {"exited": 1}),
        ("guest-exec-status", {}),
        ("guest-info", {"version": "7.2", "supported_commands": [{"name": "guest-ping"}]}),
        ("guest-ping", {"more": 1}),
        ("guest-get-osinfo", []),
    ],
)
def test_an_answer_that_no_agent_could_give_is_none_of_a_fake(command, answer):
    """A fake that gave it would be wrong."""
    with pytest.raises(AssertionError):
        qga_schema.expect_answer(command, answer)


def test_every_command_of_the_fake_is_defined():
    """And the other way round: nothing is defined that no fake has."""
    assert set(COMMANDS) == set(qga_schema.COMMANDS)


def test_a_windows_is_known_by_its_agent_and_asked_in_powershell(inside):
    """Whole programs arrive by guest-exec's input, none as an argument."""
    one = shell(inside)
    assert one.speaks is Language.POWERSHELL
    facts = gather(one, soon())
    assert (facts.os, facts.kernel) == (GuestOs.WINDOWS, "Windows 10.0.20348")
    assert one.run(windows.MARK, soon()).stdout == "1041\n"
    assert shell(FakeGuest("web1")).speaks is Language.SH


def test_a_program_that_fails_there_is_told_with_its_last_words(inside):
    """By the status that the frame tells, not by that of PowerShell's process alone."""
    inside.windows.resync_fails = True
    with pytest.raises(CommandFailed, match="w32tm ended with status -2147023834"):
        shell(inside).run(windows.RESYNC, soon())
    assert shell(inside).run(windows.RESYNC, soon(), check=False).returncode == 1
    with pytest.raises(CommandFailed, match="ParserError"):
        shell(inside).run("Get-Nothing", soon())


def test_an_agent_on_windows_has_no_sh(inside):
    """Its error is that of g_spawn, which the agent hands on."""
    with pytest.raises(ShellUnreachable, match="Failed to execute child process"):
        shell(inside).execute("/bin/sh", ["-c", "true"], soon())


def test_a_time_that_windows_refuses_is_told_with_its_error(inside):
    """``SetSystemTime`` without the privilege."""
    inside.windows.refuses_step = "1314"
    with pytest.raises(HypervisorError, match="Failed to set time to guest: 1314"):
        Channel(inside).ask("guest-set-time", soon(), {"time": 1})


def test_a_powershell_that_says_nothing_is_named(inside, monkeypatch):
    """Ended before the program began: switched off by a policy, perhaps."""
    monkeypatch.setattr("harness.testing.guest_agent.run_powershell", lambda *_: 1)
    with pytest.raises(ProbeError, match="runs no PowerShell: 'it said nothing'"):
        shell(inside).run(windows.MARK, soon())
