"""A machine whose SSH server introduces itself is ready; what its console said if it does not."""

from __future__ import annotations

import socket
from contextlib import closing
from pathlib import Path

from harness.core.files import last_lines
from harness.core.timebase import NotYet

SSH_PORT = 22
_BANNER = b"SSH-"
_CONSOLE_LINES = 3


def expect_ssh_banner(address: str, port: int, timeout_s: float) -> None:
    """Return when an SSH server at ``address`` introduces itself. Raises NotYet if none does.

    Args:
        address: of the machine.
        port: of its SSH server.
        timeout_s: for one connection. Under emulation sshd may take seconds to say hello, and
            asking again would only slow it down.
    """
    try:
        with closing(socket.create_connection((address, port), timeout_s)) as connection:
            if connection.recv(len(_BANNER)) != _BANNER:
                raise NotYet(f"{address}: port {port} is not SSH yet")
    except OSError as error:
        raise NotYet(f"{address}: {error.strerror or error}") from error


def console_hint(serial_log: Path) -> str:
    """Return a hint that quotes the last lines of a console."""
    return f"its console said last: {last_lines(serial_log, _CONSOLE_LINES) or 'nothing'}"
