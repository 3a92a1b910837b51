"""Sessions of live update: what the kernel is asked, and what its answers mean."""

from __future__ import annotations

import errno
import os
import struct

import pytest

from harness.core.errors import InfrastructureError, MissingCapability
from harness.host.luo import sessions
from harness.host.luo.sessions import Session


class Kernel:
    """Answers as the kernel documents it; descriptors are of /dev/null."""

    def __init__(self) -> None:
        self.incoming = {"from-before": {7: b"ram"}}
        self.asked: list[tuple[int, tuple[object, ...]]] = []
        self.refuses: dict[int, int] = {}

    def ioctl(self, descriptor: int, request: int, told: bytearray) -> int:
        size = struct.unpack_from("=I", told)[0]
        assert size == len(told)
        if request in self.refuses:
            raise OSError(self.refuses[request], os.strerror(self.refuses[request]))
        if request in (0xBA00, 0xBA01):
            name = struct.unpack("=Ii64s", told)[2].rstrip(b"\0").decode()
            self.asked.append((request, (name,)))
            if request == 0xBA01 and self.incoming.pop(name, None) is None:
                raise FileNotFoundError(errno.ENOENT, "No such file")
            struct.pack_into("=i", told, 4, os.open("/dev/null", os.O_RDONLY))
        elif request == 0xBA41:
            self.asked.append((request, struct.unpack("=IiQ", told)[2:]))
            struct.pack_into("=i", told, 4, 99)
        else:
            shape = "=IiQ" if request == 0xBA40 else "=II"
            self.asked.append((request, struct.unpack(shape, told)[1:]))
        return 0


@pytest.fixture
def kernel(monkeypatch):
    found = Kernel()
    monkeypatch.setattr("fcntl.ioctl", found.ioctl)
    return found


@pytest.fixture
def device(tmp_path):
    file = tmp_path / "liveupdate"
    file.touch()
    return file


def test_a_file_is_preserved_under_a_number(kernel, device):
    """The session is no child's: it lives as long as whoever has made it."""
    with Session.create("mine", device) as session:
        assert not os.get_inheritable(session._descriptor)
        session.preserve(5, 1)
        assert kernel.asked == [(0xBA00, ("mine",)), (0xBA40, (5, 1))]
    session.close()
    with pytest.raises(InfrastructureError, match="Bad file descriptor"):
        kernel.refuses[0xBA40] = errno.EBADF
        session.preserve(5, 2)


def test_what_was_handed_over_is_taken_once(kernel, device):
    """By its name; none of that name is none that was handed over."""
    with Session.retrieve("from-before", device) as session:
        assert session.file(7) == 99
        session.finish()
    assert kernel.asked[1:] == [(0xBA41, (7,)), (0xBA42, (0,))]
    assert Session.retrieve("from-before", device) is None


def test_what_the_kernel_refuses_is_told(kernel, device, monkeypatch):
    """Also that there is no such device, or that it is in use."""
    kernel.refuses[0xBA00] = errno.EEXIST
    with pytest.raises(InfrastructureError, match="session mine: File exists"):
        Session.create("mine", device)
    with pytest.raises(InfrastructureError, match="too long"):
        Session.create("x" * 64, device)
    with pytest.raises(MissingCapability, match="No such file"):
        Session.create("mine", device.with_name("none"))

    def busy(*words: object) -> int:
        raise OSError(errno.EBUSY, "Device or resource busy")

    monkeypatch.setattr("os.open", busy)
    with pytest.raises(InfrastructureError, match="in use by another program"):
        Session.create("mine", device)


def test_only_a_kernel_with_the_device_can_hand_over(device):
    """It is there only if live update is switched on, too."""
    assert sessions.is_there(device)
    assert not sessions.is_there(device.with_name("none"))
