"""One contract, two connectors: SSH to a real sshd, and the guests in memory of the tests."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from harness.core.errors import ShellUnreachable
from harness.core.settings import SshSection
from harness.core.timebase import Deadline
from harness.guest.connector import SshConnector
from harness.guest.facts import gather
from harness.guest.kernel_log import look_again, mark
from harness.guest.protocol import Connector
from harness.testing.clock import FakeClock
from harness.testing.connector import FakeConnector
from harness.testing.guest import FakeGuest
from harness.testing.sshd import private_sshd

pytestmark = pytest.mark.timeout(60)


def soon() -> Deadline:
    return Deadline.after(10)


@dataclass
class Subject:
    """A connector, a guest that it reaches, and one that it does not."""

    connector: Connector
    section: SshSection
    lost: SshSection

    def open(self):
        return self.connector.open("web1", "127.0.0.1", SshSection(), self.section, soon())


@pytest.fixture(params=["memory", "ssh"])
def subject(request, tmp_path, monkeypatch):
    """Each connector in turn; the user's own ``~/.ssh`` is empty."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    (tmp_path / ".ssh").mkdir()
    if request.param == "memory":
        guests = {name: FakeGuest(name, clock=FakeClock()) for name in ("web1", "web2")}
        guests["web2"].unreachable = True
        yield Subject(FakeConnector(guests), SshSection(), SshSection())
        return
    with private_sshd(tmp_path / "sshd") as server:
        settings = server.settings()
        section = SshSection(
            user=settings.user,
            port=settings.port,
            identity_file=settings.identity_files[0],
            known_hosts=settings.known_hosts[0] if settings.known_hosts else None,
            host_key=settings.host_key,
        )
        lost = section.model_copy(update={"port": 1})
        yield Subject(SshConnector(), section, lost)


def test_a_shell_that_is_opened_tells_what_guest_it_is_in(subject):
    """Name, boot and user: what a session needs first."""
    shell = subject.open()
    facts = gather(shell, soon())
    assert (shell.guest, bool(facts.boot_id), facts.uid >= 0) == ("web1", True, True)
    boot_id, _ = look_again(shell, mark(shell, facts, soon()), soon())
    assert boot_id == facts.boot_id
    assert (shell.way.address, shell.way.through) == ("127.0.0.1", ())
    assert shell.way.host_key.startswith("SHA256:")
    shell.close()


def test_a_closed_shell_answers_no_more_and_another_is_not_its_business(subject):
    """Closing twice does no harm."""
    one, other = subject.open(), subject.open()
    one.close()
    one.close()
    with pytest.raises(ShellUnreachable, match="web1"):
        gather(one, soon())
    assert gather(other, soon()).boot_id
    other.close()


def test_a_guest_that_does_not_answer_is_unreachable(subject):
    """By name, so that a message can say which guest it was."""
    with pytest.raises(ShellUnreachable) as caught:
        subject.connector.open("web2", "127.0.0.1", SshSection(), subject.lost, soon())
    assert caught.value.guest == "web2"


def test_a_guest_of_which_nothing_is_configured_has_no_address(subject):
    """Then the hypervisor is asked."""
    assert subject.connector.configured_address("stranger") is None


def test_ssh_config_names_an_address(tmp_path, monkeypatch):
    """``HostName`` of ``~/.ssh/config``, by the guest's name."""
    monkeypatch.setenv("HOME", str(tmp_path))
    config = Path(tmp_path, ".ssh", "config")
    config.parent.mkdir()
    config.write_text("Host web1\n  HostName 10.9.8.7\n")
    assert SshConnector().configured_address("web1") == "10.9.8.7"
