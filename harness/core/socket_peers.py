"""Which processes are at the other end of this process's unix sockets, libvirt's above all.

An update may itself have started the libvirtd that is to resume the guests. That libvirtd then
looks like a process of the update, and a process that ends the update must leave it alone.
"""

from __future__ import annotations

import os
import socket
import struct
from contextlib import suppress

#: ``struct ucred`` of SO_PEERCRED: pid, uid, gid.
_UCRED = struct.Struct("3i")
#: A socket whose backlog is full must not hold the caller up.
_CONNECT_S = 0.5

_seen: set[str] = set()


def remember(word: str) -> None:
    """Note the paths with ``word`` in them to which this process is connected. Never raises."""
    with suppress(OSError):
        for name in os.listdir("/proc/self/fd"):
            with suppress(OSError, ValueError):
                _note(int(name), word)


def peers() -> frozenset[int]:
    """Return the pids of who listens now at the remembered sockets, or did when we connected.

    See unix(7), SO_PEERCRED: the credentials are those of the process that called listen(2), so it
    is systemd where that activates libvirtd by its socket. Never raises.
    """
    return frozenset(pid for pid in map(_listener, tuple(_seen)) if pid > 0)


def _note(descriptor: int, word: str) -> None:
    if not os.readlink(f"/proc/self/fd/{descriptor}").startswith("socket:"):
        return
    with socket.socket(fileno=os.dup(descriptor)) as found:
        if found.family != socket.AF_UNIX:
            return
        path = found.getpeername()
        if isinstance(path, str) and word in path:
            _seen.add(path)


def _listener(path: str) -> int:
    """The pid of who listens at ``path``; 0 if no process does, or it cannot be told."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as link:
            link.settimeout(_CONNECT_S)
            link.connect(path)
            credentials = link.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
    except OSError:
        return 0
    return int(_UCRED.unpack(credentials)[0])
