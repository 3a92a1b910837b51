"""Adds host keys to a file of known hosts; what stands there already is never changed."""

from __future__ import annotations

import errno
import os
import re
import stat

from harness.core.errors import InfrastructureError
from harness.core.files import private_folder
from harness.guest.lean_paramiko import paramiko
from harness.guest.protocol import ShownKeys

#: A name with any other sign could be read as a pattern, as several names, or as a comment.
_PLAIN = re.compile(r"[A-Za-z0-9._:-]+|\[[A-Za-z0-9._:-]+\]:[0-9]+")


def lines_of(shown: ShownKeys) -> str:
    """Return what known_hosts is to say of these keys: one line a key.

    The name is hashed where the configuration wants that, and where it is not a plain one.
    """
    plain = _PLAIN.fullmatch(shown.name) is not None and not shown.hashed
    said = []
    for key in shown.keys:
        name = shown.name if plain else paramiko.HostKeys.hash_host(shown.name)
        said.append(f"{name} {key.kind} {key.base64}\n")
    return "".join(said)


def add(shown: ShownKeys) -> None:
    """Add the keys to their file, which is made, for its owner alone, where there is none.

    Raises InfrastructureError.
    """
    file = shown.file
    if file is None:
        raise InfrastructureError("there is no file of known hosts", guest=shown.guest)
    try:
        private_folder(file.parent)
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK
        descriptor = os.open(file, flags, 0o600)
        try:
            about = os.fstat(descriptor)
            if not stat.S_ISREG(about.st_mode):
                raise InfrastructureError(
                    f"{file} is no file that could keep a host key",
                    guest=shown.guest,
                    hint="name one: known_hosts in [ssh] of harness.toml",
                )
            size = about.st_size
            ends = size == 0 or os.pread(descriptor, 1, size - 1) == b"\n"
            text = ("" if ends else "\n") + lines_of(shown)
            _write_at_once(descriptor, text.encode())
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        message = f"cannot add its host key to {file}: {error.strerror}"
        raise InfrastructureError(message, guest=shown.guest) from error


def _write_at_once(descriptor: int, data: bytes) -> None:
    """In one call: another program may be adding, too."""
    written = os.write(descriptor, data)
    if written < len(data):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
