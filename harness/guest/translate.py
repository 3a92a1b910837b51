"""paramiko's and the socket's exceptions become ours, chosen by class."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import paramiko

from harness.errors import DeadlineExpired, ShellUnreachable
from harness.timebase import Deadline


@contextmanager
def translated(guest: str, doing: str, deadline: Deadline) -> Iterator[None]:
    """Let a block use paramiko; what it raises comes out as a ShellError or DeadlineExpired."""
    try:
        yield
    except paramiko.AuthenticationException as error:
        raise ShellUnreachable(
            f"{doing}: the login was refused: {error}",
            guest=guest,
            hint="which user and key work with ssh? put them into ~/.ssh/config or harness.toml",
        ) from error
    except TimeoutError as error:
        raise DeadlineExpired(doing, deadline.limit_s, guest=guest) from error
    except (paramiko.SSHException, EOFError, OSError) as error:
        if deadline.expired:
            raise DeadlineExpired(doing, deadline.limit_s, error, guest=guest) from error
        said = str(error) or type(error).__name__
        raise ShellUnreachable(f"{doing}: {said}", guest=guest) from error
