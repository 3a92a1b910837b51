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
