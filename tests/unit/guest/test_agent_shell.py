"""A guest's shell by its guest agent: real processes, by the agent's commands on this machine."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from harness.clock.agent_time import AgentTime
from harness.clock.sampling import Sampler
from harness.clock.told import GUEST_AGENT, ToldClock
from harness.core.errors import (
    CommandFailed,
    DeadlineExpired,
    HypervisorError,
    MissingCapability,
    ProbeError,
    ShellUnreachable,
)
from harness.core.timebase import SYSTEM_CLOCK, Deadline, NotYet, wait_for
from harness.guest import agent_shell
from harness.guest.agent_channel import abilities_of
from harness.guest.agent_shell import AgentShell
from harness.guest.facts import gather
from harness.testing.local_agent import LocalAgent


def soon(seconds: float = 10.0) -> Deadline:
    return Deadline.after(seconds)


@pytest.fixture
def agent():
    """The agent of this machine."""
    local = LocalAgent()
    yield local
    local.close()


@pytest.fixture
def shell(agent):
    """A shell by it; in the end no program, named pipe or file of ours is left."""
    opened = AgentShell.open(agent, soon())
    yield opened
    opened.close()
    assert not left(agent)


def left(agent: LocalAgent) -> list[Path]:
    """Return the folders that were made in the guest and are there."""
    return [path.parent for path in agent.paths if path.parent.exists()]


def test_a_command_tells_what_it_printed_and_how_it_ended(shell):
    """Both outputs, apart, and its status; its input is empty."""
    done = shell.run("cat; echo out; echo err >&2; exit 3", soon(), check=False)
    assert (done.returncode, done.stdout, done.stderr) == (3, "out\n", "err\n")


def test_a_command_that_fails_is_an_error_with_its_last_words(shell):
    """Where it was to succeed."""
    with pytest.raises(CommandFailed, match="status 4: no such thing") as caught:
        shell.run("echo no such thing >&2; exit 4", soon())
    assert caught.value.returncode == 4


def test_what_a_command_prints_is_data_whatever_it_is(shell):
    """Bytes that are no text, no newline in the end, and lines that look like ours."""
    done = shell.run(r"printf 'a\377b harness-00-end 7\nc'", soon())
    assert done.stdout == "a\ufffdb harness-00-end 7\nc"


def test_a_command_without_end_is_given_up_and_ended_in_the_guest(shell, agent):
    """By the deadline; another one is answered."""
    with pytest.raises(DeadlineExpired):
        shell.run("sleep 60; sleep 60", soon(0.3))
    pid = next(iter(agent.programs))
    assert shell.run("echo well", soon()).stdout == "well\n"

    def ended() -> None:
        if not agent.ask("guest-exec-status", soon(), {"pid": pid})["exited"]:
            raise NotYet("it sleeps")

    wait_for(ended, what="ending", deadline=soon())


def test_a_command_that_floods_is_cut(shell, monkeypatch):
    """libvirt would give the agent up, for every program of the host."""
    monkeypatch.setattr(agent_shell, "OUTPUT_LIMIT_BYTES", 1000)
    with pytest.raises(ProbeError, match="printed more than 1000 bytes"):
        shell.run("yes", soon())


def test_a_program_runs_without_a_shell_and_reads_what_it_is_given(shell):
    """What a Windows guest is asked by."""
    assert shell.execute("/bin/cat", ["-"], soon(), b"given\n").stdout == "given\n"


def test_a_program_that_a_signal_ended_has_a_status_that_is_not_zero(shell):
    """As a shell would give it."""
    assert shell.execute("/bin/sh", ["-c", "kill -9 $$"], soon()).returncode == 137


def test_a_long_lived_program_answers_line_by_line(shell):
    """Stamped around each exchange; what it says unasked can be waited for."""
    stream = shell.stream("echo ready; exec cat", soon())
    assert stream.listen(soon())[0] == "ready"
    before_ns = SYSTEM_CLOCK.monotonic_ns()
    sent_ns, answer, received_ns = stream.ask("hello", soon())
    assert answer == "hello"
    assert before_ns <= sent_ns < received_ns <= SYSTEM_CLOCK.monotonic_ns()


def test_nothing_has_a_name_in_the_guest_once_a_program_runs(shell, agent):
    """However the run ends."""
    shell.stream("exec cat", soon())
    assert agent.paths
    assert not left(agent)


def test_a_program_ends_with_its_stream_and_so_does_what_watches_it(shell, agent):
    """It reads the end of its input; nothing sleeps on for a day."""
    stream = shell.stream("echo $$; exec cat", soon())
    stream.listen(soon())
    (pid,) = agent.programs

    def group_of() -> list[int]:
        if len(found := children(pid)) < 2:
            raise NotYet(f"only {found} below the program: what watches it starts beside it")
        return found

    group = wait_for(group_of, what="starting", deadline=soon(), interval_s=0.01)
    stream.close()

    def gone() -> None:
        agent.ask("guest-exec-status", soon(), {"pid": pid}) if pid in agent.programs else None
        if left := [one for one in (pid, *group) if Path(f"/proc/{one}").exists()]:
            raise NotYet(f"{left} live")

    wait_for(gone, what="ending", deadline=soon())


def children(pid: int) -> list[int]:
    """Return the processes below a process."""
    found = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in map(int, task.read_text().split()):
            found += [child, *children(child)]
    return found


def test_a_program_that_has_ended_says_so_with_its_last_words(shell):
    """And is not waited for until the deadline."""
    stream = shell.stream("echo it broke >&2; exit 1", soon())
    with pytest.raises(ProbeError, match="ended: it broke"):
        stream.ask("r 1", soon(5))


def test_an_answer_that_comes_late_is_nobodys(shell):
    """The next question gets its own: answers are numbered."""
    facts = gather(shell, soon())
    sampler = Sampler.open(shell, facts, soon(), interpreters=["sh"])
    slow = shell.stream("while read -r what number; do sleep 0.4; echo $number late; done", soon())
    sampler._stream = slow
    with pytest.raises(DeadlineExpired):
        sampler._ask("r", soon(0.1))
    assert sampler._ask("r", soon()).text == "late"


@pytest.mark.parametrize("interpreter", ["python3", "perl", "sh"])
def test_the_clock_agents_are_those_of_ssh(shell, interpreter):
    """This machine's clock is right by itself."""
    facts = gather(shell, soon())
    if interpreter not in facts.interpreters:
        pytest.skip(f"no {interpreter} here")
    sampler = Sampler.open(shell, facts, soon(), interpreters=[interpreter])
    reading = sampler.read(4, soon())
    assert abs(reading.offset_s) <= reading.uncertainty_s


class Told:
    """A clock that the agent of this machine tells, ``late_s`` off."""

    late_s = 0.0

    def get(self, deadline: Deadline) -> AgentTime:
        sent_ns = SYSTEM_CLOCK.realtime_ns()
        told_ns = sent_ns - round(self.late_s * 1e9)
        return AgentTime(sent_ns, told_ns, SYSTEM_CLOCK.realtime_ns())

    def set(self, realtime_ns: int, deadline: Deadline) -> None:
        raise AssertionError


def test_the_quicker_way_to_a_clock_makes_a_reading_surer(shell):
    """And CLOCK_MONOTONIC is told all the same, derived from the program's one sample."""
    told = ToldClock("here", Told(), sets=True)
    facts = gather(shell, soon())
    sampler = Sampler.open(shell, facts, soon(), interpreters=["python3"], told=told)
    reading = sampler.read(4, soon())
    alone = Sampler.open(shell, facts, soon(), interpreters=["python3"]).read(4, soon())
    assert abs(reading.offset_s) <= reading.uncertainty_s < alone.uncertainty_s
    assert abs(reading.monotonic_s) <= reading.monotonic_uncertainty_s
    assert sampler.interpreter == "python3"


def test_two_ways_that_disagree_are_a_clock_that_jumped(shell):
    """One of them is wrong, or it was set in between: neither is believed."""
    lying = Told()
    told = ToldClock("here", lying, sets=True)
    sampler = Sampler.open(shell, gather(shell, soon()), soon(), told=told)
    lying.late_s = 5.0
    with pytest.raises(ProbeError, match="jumped"):
        sampler.read(4, soon())


def test_where_no_agent_of_ours_runs_the_guest_agent_tells_the_time(shell):
    """What it cannot tell is not made up."""
    told = ToldClock("here", Told(), sets=False)
    sampler = Sampler.open(shell, gather(shell, soon()), soon(), interpreters=[], told=told)
    reading = sampler.read(4, soon())
    assert abs(reading.offset_s) <= reading.uncertainty_s
    assert (sampler.interpreter, reading.monotonic_s) == (GUEST_AGENT, None)
    with pytest.raises(ProbeError, match="lacks guest-set-time"):
        sampler.expect_right(soon())


def test_an_agent_that_blocks_commands_is_asked_for_none_of_them(agent):
    """What needs them is refused, with their names, before anything is tried."""
    agent.blocked = frozenset({"guest-exec", "guest-file-open"})
    shell = AgentShell.open(agent, soon())
    with pytest.raises(MissingCapability, match=r"lacks guest-exec \(blocked\)"):
        shell.run("echo", soon())
    with pytest.raises(MissingCapability, match=r"guest-exec \(blocked\), guest-file-open"):
        shell.stream("exec cat", soon())
    assert agent.asked == ["guest-info"]


def test_what_was_made_for_a_program_that_cannot_be_started_is_removed(shell, agent):
    """By a policy that the agent does not know of itself, such as SELinux."""

    def refuse() -> None:
        raise HypervisorError("Permission denied", operation="asking", guest="here")

    agent.before["guest-file-open"] = refuse
    with pytest.raises(ShellUnreachable, match="Permission denied"):
        shell.stream("exec cat", soon())
    assert agent.paths
    assert not left(agent)


def test_an_agent_that_was_restarted_has_lost_the_program(shell, agent):
    """That is said at once."""
    stream = shell.stream("exec cat", soon())
    agent.close()
    with pytest.raises(ShellUnreachable, match="has not been found"):
        stream.ask("hello", soon())


@pytest.mark.parametrize(
    "answer",
    [None, [], {}, {"pid": "7"}, {"pid": None}, "x", 7, {"exited": 1}],
    ids=str,
)
def test_an_agent_that_answers_nonsense_is_told_from_one_that_answers(agent, answer):
    """Everything that a guest says is data."""
    shell = AgentShell.open(agent, soon())

    class Odd(LocalAgent):
        def ask(self, command: str, deadline: Deadline, arguments: Any) -> Any:
            return answer

    shell.channel = Odd()
    for ask in (
        lambda: shell.run("echo", soon()),
        lambda: shell.stream("exec cat", soon()),
        lambda: abilities_of(shell.channel, soon()),
    ):
        with pytest.raises(ProbeError, match="nonsense"):
            ask()


def test_a_script_needs_nothing_of_the_agents_environment(shell, monkeypatch):
    """An agent that init has started may have no PATH."""
    monkeypatch.delenv("PATH")
    monkeypatch.setenv("LC_ALL", "de_DE.UTF-8")
    assert shell.run("ls / >/dev/null; echo $LC_ALL", soon()).stdout == "C\n"
    assert "PATH" not in os.environ
