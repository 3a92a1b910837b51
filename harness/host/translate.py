"""libvirt's errors become ours, chosen by error code; English texts are only passed on."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import libvirt

from harness.core.errors import (
    AgentSilent,
    ConnectionLost,
    GuestNotFound,
    HypervisorError,
    WrongState,
)

#: No connection, or one that broke while it was used.
_LOST = frozenset(
    {
        libvirt.VIR_ERR_NO_CONNECT,
        libvirt.VIR_ERR_INVALID_CONN,
        libvirt.VIR_ERR_RPC,
    }
)
#: These errors are of the connection where they come from these parts of libvirt, and only there:
#: a socket's error; "client socket is closed" and "closed due to keepalive timeout".
_LOST_IF_FROM = frozenset(
    {
        (libvirt.VIR_ERR_SYSTEM_ERROR, libvirt.VIR_FROM_RPC),
        (libvirt.VIR_ERR_SYSTEM_ERROR, libvirt.VIR_FROM_REMOTE),
        (libvirt.VIR_ERR_INTERNAL_ERROR, libvirt.VIR_FROM_RPC),
    }
)
_FORBIDDEN = frozenset(
    {
        libvirt.VIR_ERR_AUTH_FAILED,
        libvirt.VIR_ERR_AUTH_CANCELLED,
        libvirt.VIR_ERR_AUTH_UNAVAILABLE,
        libvirt.VIR_ERR_ACCESS_DENIED,
    }
)
#: The agent's channel is not connected, or nothing came back in time.
_SILENT = frozenset(
    {
        libvirt.VIR_ERR_AGENT_UNRESPONSIVE,
        libvirt.VIR_ERR_AGENT_UNSYNCED,
        112,  # VIR_ERR_AGENT_COMMAND_TIMEOUT, of libvirt 11.2
    }
)
_HINT_AGENT = "does qemu-ga run in the guest? e.g. there: systemctl status qemu-guest-agent"
_HINT_ABSENT = "is libvirtd running here? e.g. sudo systemctl start libvirtd"
_HINT_FORBIDDEN = "you may not use it; e.g. sudo usermod -aG libvirt $USER, then log in again"


def _ignore(_: Any, __: Any) -> None:
    """Drop an error that libvirt would print to stderr; ours are raised."""


libvirt.registerErrorHandler(_ignore, None)


@contextmanager
def translated(operation: str, guest: str | None = None) -> Iterator[None]:
    """Let a block call libvirt; what libvirt raises comes out as a HypervisorError."""
    try:
        yield
    except libvirt.libvirtError as error:
        raise translate(error, operation, guest) from error


def translate(
    error: libvirt.libvirtError, operation: str, guest: str | None = None
) -> HypervisorError:
    """Map a libvirtError to a HypervisorError by its code."""
    code = error.get_error_code()
    lost = code in _LOST or (code, error.get_error_domain()) in _LOST_IF_FROM
    kind: type[HypervisorError] = HypervisorError
    hint = None
    if code == libvirt.VIR_ERR_NO_DOMAIN:
        kind = GuestNotFound
    elif code == libvirt.VIR_ERR_OPERATION_INVALID:
        kind = WrongState
    elif code in _SILENT:
        kind, hint = AgentSilent, _HINT_AGENT
    elif code in _FORBIDDEN or (lost and error.get_int1() == errno.EACCES):
        kind, hint = ConnectionLost, _HINT_FORBIDDEN
    elif lost:
        kind = ConnectionLost
        hint = _HINT_ABSENT if error.get_int1() in (errno.ENOENT, errno.ECONNREFUSED) else None
    said = error.get_error_message() or str(error)
    return kind(f"{operation}: {said}", operation=operation, code=code, guest=guest, hint=hint)
