"""Where the guest itself is asked past our login, and where what answers would be somebody else."""

from __future__ import annotations

import socket
import threading
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from harness.checks.downtime import Downtime
from harness.checks.evidence import Missing
from harness.checks.probes.direct import direct_address
from harness.checks.probes.downtime import DowntimeProbe
from harness.checks.probes.group import GuestProbes
from harness.checks.probes.protocol import Scene
from harness.checks.probes.tcp_session import TcpProbe
from harness.checks.tcp_session import TcpSession
from harness.core.errors import MissingCapability
from harness.core.settings import ChecksSection
from harness.core.timebase import SYSTEM_CLOCK, Deadline
from harness.guest.facts import GuestFacts
from harness.guest.machine import Machine
from harness.guest.protocol import Way
from harness.testing.local_shell import LocalShell


def scene(way: Way, own: str | None) -> Scene:
    facts = GuestFacts("boot", "6.1", "tsc", 0, ("sh",), None, machine=Machine(ssh_address=own))
    shell = SimpleNamespace(way=way)
    return Scene("web1", "u", way.address, shell, facts, None, ChecksSection(), Path())


@pytest.mark.parametrize(
    ("way", "own", "address"),
    [
        (Way("10.0.0.9", peer="10.0.0.9"), "10.0.0.9", "10.0.0.9"),
        (Way("10.0.0.9", 2222, peer="10.0.0.9"), "10.0.0.9", "10.0.0.9"),
        (Way("web1.example", peer="10.0.0.9"), "10.0.0.9", "10.0.0.9"),
        (Way("fe80::1%virbr0", peer="fe80::1%virbr0"), "fe80::1%eth0", "fe80::1%virbr0"),
        (Way("10.0.0.9", peer="10.0.0.9"), "::ffff:10.0.0.9", "10.0.0.9"),
    ],
)
def test_the_guests_own_address_is_asked(way, own, address):
    """Both ends name it; a sshd on another port, a name and a zone make no difference."""
    assert direct_address(scene(way, own)) == address


@pytest.mark.parametrize(
    ("way", "own", "why"),
    [
        (Way("127.0.0.1", 2222, peer="127.0.0.1", is_here=True), "10.0.2.15",
         "127.0.0.1 port 2222 is a port of this machine"),
        (Way("10.0.0.1", 2222, peer="10.0.0.1", is_here=True), "10.0.0.1", "port of this machine"),
        (Way("10.0.0.9", through=("bastion",)), "10.0.0.9", "reached through bastion"),
        (Way("192.0.2.7", peer="192.0.2.7"), "10.0.0.9", "reached at its address 10.0.0.9"),
        (Way("192.0.2.7", peer="192.0.2.7"), None, "does not tell at which address"),
        (Way("web1"), "10.0.0.9", "known to SSH only"),
    ],
)  # fmt: skip
def test_an_address_that_leads_only_ssh_to_the_guest_is_not_asked(way, own, why):
    """What answers there is the runner, a router, or anybody."""
    with pytest.raises(MissingCapability, match=why):
        direct_address(scene(way, own))


@pytest.fixture
def forwarded(tmp_path):
    """This machine as a guest behind a port of its own: ICMP and TCP would be answered."""
    remote = LocalShell()
    remote.way = replace(remote.way, port=2222, is_here=True)
    machine = Machine(ssh_address="127.0.0.1")
    facts = GuestFacts("boot", "6.1", "tsc", 0, ("python3", "sh"), None, machine=machine)
    yield Scene("here", "u", "127.0.0.1", remote, facts, None, ChecksSection(), tmp_path)
    remote.close()


def test_who_answers_for_the_guest_is_not_listened_to(forwarded):
    """The downtime is skipped with the reason; the session goes through the guest's own channel."""
    watch = GuestProbes(forwarded, [DowntimeProbe(), TcpProbe()])
    watch.start(None, Deadline.after(30))
    watch.mark(Deadline.after(30))
    watch.paused()
    SYSTEM_CLOCK.sleep(0.3)
    watch.resuming()
    told = watch.stop(Deadline.after(30))
    downtime, session = told[Downtime], told[TcpSession]
    assert isinstance(downtime, Missing)
    assert downtime.known_before
    assert "port of this machine" in downtime.reason
    assert isinstance(session, TcpSession)
    assert session.over == "ssh"
    assert session.sent == session.answered > 0


def test_a_decoy_at_the_port_of_the_echo_is_no_session(forwarded, monkeypatch):
    """It takes the connection and says something else: before the pause, so SSH is used."""
    with socket.create_server(("127.0.0.1", 0)) as decoy:

        def greet():
            with decoy.accept()[0] as peer:
                peer.sendall(b"220 smtp.example ESMTP\r\n")
                peer.recv(100)

        port = decoy.getsockname()[1]
        monkeypatch.setattr(Scene, "echo_ports", lambda *_: ("token", port, port))
        forwarded.remote.way = replace(forwarded.remote.way, is_here=False)
        thread = threading.Thread(target=greet)
        thread.start()
        probe = TcpProbe()
        probe.start(forwarded, Deadline.after(10))
        told = probe.stop(Deadline.after(10))
        probe.close()
        thread.join(10)
    assert (told.over, told.wrong, told.broken) == ("ssh", 0, None)
