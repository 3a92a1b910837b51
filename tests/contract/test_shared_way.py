"""Logins of many guests by one jump host: its sshd turns away who comes while others log in."""

from __future__ import annotations

import shlex
import shutil
import threading
from contextlib import contextmanager
from functools import partial

import pytest

from harness.core.errors import DeadlineExpired, ShellUnreachable
from harness.core.fanout import fan_out
from harness.core.settings import SshSection
from harness.core.timebase import Deadline
from harness.guest.connector import SshConnector
from harness.guest.shared_way import AT_ONCE, by_turns
from harness.testing.sshd import peer, private_sshd

pytestmark = [pytest.mark.timeout(120), pytest.mark.usefixtures("home")]

#: OpenSSH's own is 10:30:100. This one turns away all but two.
FEW = "MaxStartups 2:100:2"
GUESTS = 8


@pytest.fixture(scope="module")
def guest(tmp_path_factory):
    """The sshd that stands in for all guests; it turns nobody away."""
    with private_sshd(tmp_path_factory.mktemp("guest")) as server:
        yield server


@pytest.fixture(scope="module")
def jump(guest, tmp_path_factory):
    """A jump host that has two of those who log in at once."""
    with private_sshd(tmp_path_factory.mktemp("jump"), guest.client_key, FEW) as server:
        yield server


@contextmanager
def logged_in(section: SshSection, count: int = GUESTS):
    """``count`` guests at once, as a run opens them: their answers."""
    connector, deadline = SshConnector(), Deadline.after(60)
    logins = {
        f"web{number}": partial(
            connector.open, f"web{number}", "127.0.0.1", section, SshSection(), deadline
        )
        for number in range(count)
    }
    answers = fan_out(logins, deadline, what="logging in")
    try:
        yield answers
    finally:
        for answer in answers.values():
            if answer.value is not None:
                answer.value.close()


def failed(answers) -> list[str]:
    return [str(answer.error) for answer in answers.values() if answer.error is not None]


def test_a_jump_host_that_has_few_at_once_leads_to_many_guests(guest, jump, tmp_path):
    """Nobody is turned away for good."""
    known = tmp_path / "known"
    known.write_text(guest.known() + jump.known())
    section = SshSection(
        port=guest.port,
        proxy_jump=f"127.0.0.1:{jump.port}",
        known_hosts=known,
        identity_file=guest.client_key,
        connect_timeout_s=60,
    )
    with logged_in(section) as answers:
        assert failed(answers) == []
        for answer in answers.values():
            assert answer.get().run("echo there", Deadline.after(30)).stdout == "there\n"


def test_so_does_one_behind_a_proxy_command(guest, jump, home):
    """`ssh -W` is what many still have in their configuration."""
    known = home / ".ssh/known_hosts"
    known.write_text(guest.known() + jump.known())
    ssh = [str(shutil.which("ssh")), "-F", "none", "-i", str(guest.client_key)]
    ssh += ["-o", f"UserKnownHostsFile={known}", "-o", "BatchMode=yes", "-p", str(jump.port)]
    (home / ".ssh/config").write_text(
        f"Host *\n IdentityFile {guest.client_key}\n UserKnownHostsFile {known}\n"
        f" ProxyCommand {shlex.join(ssh)} -W %h:%p 127.0.0.1\n"
    )
    with logged_in(SshSection(port=guest.port, connect_timeout_s=60)) as answers:
        assert failed(answers) == []


@pytest.mark.parametrize("what", ["jump host", "ProxyCommand"])
def test_one_that_turns_everybody_away_is_told_with_a_hint(guest, home, what):
    """It is not tried without end."""
    with peer(b"", stays=False) as port:
        section = SshSection(proxy_jump=f"127.0.0.1:{port}", connect_timeout_s=1)
        if what == "ProxyCommand":
            section = SshSection(connect_timeout_s=1)
            (home / ".ssh/config").write_text("Host *\n ProxyCommand /bin/true %h\n")
        with logged_in(section, 1) as answers, pytest.raises(ShellUnreachable) as turned_away:
            answers["web0"].get()
    assert "tried" in str(turned_away.value)
    assert "MaxStartups" in str(turned_away.value)


def test_a_turn_is_given_back_whatever_comes_of_it():
    """A login that fails holds up nobody, and fails once."""
    calls = []

    def fail() -> None:
        calls.append(1)
        raise ShellUnreachable("x")

    for _ in range(2 * AT_ONCE):
        with pytest.raises(ShellUnreachable):
            by_turns(("gate", 22), "web1", 5, Deadline.after(5), fail)
    assert len(calls) == 2 * AT_ONCE


def test_no_more_than_a_few_log_in_at_once_and_who_waits_too_long_is_told():
    """The others wait, each by its own deadline."""
    go, inside = threading.Event(), threading.Semaphore(0)

    def stay() -> None:
        inside.release()
        go.wait(30)

    def wait(name: str, seconds: float) -> None:
        by_turns(("slow gate", 22), name, 1, Deadline.after(seconds), stay)

    busy = [threading.Thread(target=wait, args=(f"web{n}", 30)) for n in range(AT_ONCE)]
    try:
        for thread in busy:
            thread.start()
            assert inside.acquire(timeout=30)
        with pytest.raises(DeadlineExpired, match="late: waiting for a turn .*slow gate"):
            wait("late", 0.05)
    finally:
        go.set()
        for thread in busy:
            thread.join(30)
    assert not inside.acquire(blocking=False)
