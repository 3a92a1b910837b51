"""paramiko's and the socket's exceptions become ours, chosen by class."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from harness.core.errors import DeadlineExpired, HarnessError, ShellUnreachable, TurnedAway
from harness.core.timebase import Deadline
from harness.guest.lean_paramiko import paramiko


class NoBanner(paramiko.SSHException):
    """The connection was closed before the server said what it is."""


@contextmanager
def translated(guest: str, doing: str, deadline: Deadline) -> Iterator[None]:
    """Let a block use paramiko; what it raises comes out as a ShellError or DeadlineExpired."""
    try:
        yield
    except HarnessError:
        raise
    except TimeoutError as error:
        raise DeadlineExpired(doing, deadline.limit_s, guest=guest) from error
    except Exception as error:
        # Of any class: paramiko raises here what its reader thread died of, and a peer that sends
        # nonsense kills it by a KeyError, UnicodeDecodeError, struct.error, …
        if deadline.expired:
            raise DeadlineExpired(doing, deadline.limit_s, error, guest=guest) from error
        said = repr(error)
        if isinstance(error, EOFError):
            said = "the connection was closed"
        elif isinstance(error, paramiko.SSHException | OSError):
            said = str(error) or type(error).__name__
        kind = TurnedAway if isinstance(error, NoBanner) else ShellUnreachable
        raise kind(f"{doing}: {said}", guest=guest) from error
