"""A libvirtd that the update started is not ended with the update."""

from __future__ import annotations

import os
import socket
import subprocess
import sys

import pytest

from harness.core import socket_peers
from harness.core.timebase import Deadline, NotYet, wait_for
from harness.host.process_family import MARK, Family

#: Listens like libvirtd, with a child of its own, and waits to be ended.
LIBVIRTD = """
import socket, subprocess, sys, time
server = socket.socket(socket.AF_UNIX)
server.bind(sys.argv[1])
server.listen()
subprocess.Popen(["sleep", "77"])
time.sleep(77)
"""


@pytest.fixture
def path(tmp_path, monkeypatch):
    """A libvirt socket that is only looked at by this test."""
    monkeypatch.setattr(socket_peers, "_seen", set())
    return str(tmp_path / "libvirt-sock")


@pytest.fixture
def libvirtd(path):
    """The pid of a process of update ``mark`` that listens there."""
    environment = {**os.environ, MARK: "mark"}
    process = subprocess.Popen([sys.executable, "-c", LIBVIRTD, path], env=environment)
    yield process.pid
    Family("mark", peers=frozenset).end(process.poll)
    process.wait(10)


def connected(path: str) -> socket.socket:
    def connect() -> socket.socket:
        link = socket.socket(socket.AF_UNIX)
        try:
            link.connect(path)
        except OSError as error:
            link.close()
            raise NotYet(str(error)) from error
        return link

    return wait_for(connect, what="listening", deadline=Deadline.after(20), interval_s=0.01)


def test_who_listens_where_we_are_connected_is_known_after_a_restart_too(path, libvirtd):
    """The path is remembered, and asked when it matters; nothing else is."""
    connected(path).close()
    socket_peers.remember("libvirt")
    assert socket_peers.peers() == frozenset()
    with connected(path):
        socket_peers.remember("libvirt")
    assert socket_peers.peers() == {libvirtd}


def test_ending_an_update_spares_our_libvirtd_and_its_children(path, libvirtd):
    """What else the update started is ended, and nothing is said to have survived."""
    other = subprocess.Popen(["sleep", "78"], env={**os.environ, MARK: "mark"})
    with connected(path):
        socket_peers.remember("libvirt")
    family = Family("mark")
    family.end(other.poll)
    assert other.wait(10) != 0
    assert family.pids() == frozenset()
    left = Family("mark", peers=frozenset).pids()
    assert libvirtd in left
    assert len(left) == 2


def test_a_peer_that_is_no_process_of_the_update_spares_nothing_of_it():
    """Where systemd activates libvirtd by its socket, the peer is process 1."""
    other = subprocess.Popen(["sleep", "79"], env={**os.environ, MARK: "mark"})
    Family("mark", peers=lambda: frozenset({1, os.getpid()})).end(other.poll)
    assert other.wait(10) != 0


def test_nobody_listens_any_more(path, libvirtd):
    """No pid, and no error."""
    with connected(path):
        socket_peers.remember("libvirt")
    os.unlink(path)
    assert socket_peers.peers() == frozenset()
