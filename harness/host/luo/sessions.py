"""Files in memory that one kernel hands over to the next: sessions of ``/dev/liveupdate``.

A file is preserved for as long as the session that it is in is open, and that is in the hands of
one process: where it ends, nothing is handed over, and the files are as they were. The kernel
documents the calls in userspace-api/liveupdate.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
from pathlib import Path
from typing import Self

from harness.core.errors import InfrastructureError, MissingCapability

DEVICE = Path("/dev/liveupdate")
#: A file without a name, as a session takes it, has more than one page, or may have none.
NAME_BYTES = 63
_CREATE, _RETRIEVE = 0xBA00, 0xBA01
_PRESERVE_FD, _RETRIEVE_FD, _FINISH = 0xBA40, 0xBA41, 0xBA42
#: Each begins with its own size; a descriptor is the kernel's to fill in, or ours.
_NAMED, _FILE, _END = struct.Struct("=Ii64s"), struct.Struct("=IiQ"), struct.Struct("=II")


def is_there(device: Path = DEVICE) -> bool:
    """Return True if this kernel can hand files over."""
    return device.exists()


class Session:
    """An open session, of this kernel's or of the one before; closed with a ``with``."""

    def __init__(self, name: str, descriptor: int) -> None:
        self.name = name
        self._descriptor = descriptor

    @classmethod
    def create(cls, name: str, device: Path = DEVICE) -> Self:
        """Begin one, for the next kernel. Raises MissingCapability or InfrastructureError."""
        return cls(name, _named(_CREATE, name, device))

    @classmethod
    def retrieve(cls, name: str, device: Path = DEVICE) -> Self | None:
        """Take over one that the kernel before has handed over; None if it has not.

        That can be done once. Raises MissingCapability or InfrastructureError.
        """
        try:
            return cls(name, _named(_RETRIEVE, name, device))
        except FileNotFoundError:
            return None

    def preserve(self, file: int, token: int) -> None:
        """Have the next kernel find a file by its number. Raises InfrastructureError.

        It is filled: what of it is no memory yet is so from now on. It has no name in any folder,
        cannot be made longer or shorter, and may be written to.
        """
        self._call(_PRESERVE_FD, _FILE, file, token)

    def file(self, token: int) -> int:
        """Return a file that the kernel before has preserved. Raises InfrastructureError."""
        return int(_FILE.unpack(self._call(_RETRIEVE_FD, _FILE, -1, token))[1])

    def finish(self) -> None:
        """Nothing more is taken from it. Raises InfrastructureError."""
        self._call(_FINISH, _END, 0)

    def close(self) -> None:
        """What is not handed over by now never is. Idempotent."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _call(self, request: int, shape: struct.Struct, *values: int) -> bytes:
        told = bytearray(shape.pack(shape.size, *values))
        try:
            fcntl.ioctl(self._descriptor, request, told)
        except OSError as error:
            raise InfrastructureError(f"session {self.name}: {error.strerror}") from error
        return bytes(told)


def _named(request: int, name: str, device: Path) -> int:
    """The device is open for a moment only: it can be opened once at a time. May raise ENOENT."""
    text = name.encode()
    if len(text) > NAME_BYTES:
        raise InfrastructureError(f"{name!r} is too long for a session's name")
    told = bytearray(_NAMED.pack(_NAMED.size, -1, text))
    try:
        descriptor = os.open(device, os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        if error.errno == errno.EBUSY:
            raise InfrastructureError(f"{device} is in use by another program") from error
        raise MissingCapability(str(device), f"{device}: {error.strerror}") from error
    try:
        fcntl.ioctl(descriptor, request, told)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise InfrastructureError(f"session {name}: {error.strerror}") from error
    finally:
        os.close(descriptor)
    found = int(_NAMED.unpack(told)[1])
    os.set_inheritable(found, False)
    return found
