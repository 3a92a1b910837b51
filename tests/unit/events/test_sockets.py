"""Where the server listens: on one device each, which is what makes a guest's address a proof."""

from __future__ import annotations

import os
import socket

import pytest

from harness.events import sockets


def test_each_socket_is_bound_to_the_device_that_carries_the_address(monkeypatch):
    """Linux would accept packets for the address on any interface."""
    asked = []
    really = socket.socket.setsockopt

    class Socket(socket.socket):
        def setsockopt(self, *words):
            asked.append(words)
            if words[1] != socket.SO_BINDTODEVICE:  # only root may
                really(self, *words)

    monkeypatch.setattr(socket, "socket", Socket)
    monkeypatch.setattr(sockets, "carriers", lambda address: ["lo"])
    monkeypatch.setattr(sockets, "reaches_outside", lambda device: False)
    (listening,) = sockets.listen("127.0.0.1", 0)
    listening.close()
    assert (socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"lo") in asked


@pytest.mark.skipif(os.geteuid() != 0, reason="binding to a device is for root")
def test_the_kernel_knows_the_device():
    """Read back from a real socket; ``anywhere`` is bound to none."""
    for anywhere, device in ((False, b"lo"), (True, b"")):
        (listening,) = sockets.listen("127.0.0.1", 0, anywhere=anywhere)
        with listening:
            bound = listening.getsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, 16)
        assert bound.rstrip(b"\0") == device


def test_a_person_is_told_commands_for_the_bridges_that_guests_are_on(tmp_path):
    """To paste; where no bridge is known, what is to be put in its place."""
    for tap, bridge in (("tap0", "virbr0"), ("tap1", "br lan"), ("tap2", "virbr0")):
        (tmp_path / "class/net" / bridge).mkdir(parents=True, exist_ok=True)
        (tmp_path / "class/net" / tap).mkdir()
        (tmp_path / "class/net" / tap / "master").symlink_to(f"../{bridge}")
    (tmp_path / "class/net/alone").mkdir()
    bridges = sockets.bridges_of(["tap0", "tap1", "tap2", "alone", "", "gone"], tmp_path)
    assert bridges == ["br lan", "virbr0"]
    assert sockets.how_to_add("192.0.2.1", bridges).startswith(
        "ip address add 192.0.2.1/32 dev 'br lan'; ip address add 192.0.2.1/32 dev virbr0 ("
    )
    assert "dev BRIDGE" in sockets.how_to_add("192.0.2.1")
