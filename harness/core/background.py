"""Processes that go on without this one: a session of their own, and nothing of our terminal."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path


class BackgroundProcess(subprocess.Popen[bytes]):
    """A process that may outlive this one; until then ``poll`` and ``wait`` tell of its end."""

    def __del__(self) -> None:
        """Reap it if it has ended; that it goes on is no leak, and nothing to warn of."""
        if getattr(self, "returncode", 0) is None:
            self.poll()


def start_in_background(
    command: Sequence[str],
    log: Path,
    *,
    append: bool = True,
    keep: Collection[int] = (),
    environment: Mapping[str, str] | None = None,
    fed: bool = False,
    umask: int = -1,
) -> BackgroundProcess:
    """Start a program that no terminal interrupts and whose output goes to ``log``.

    Args:
        command: The program, looked up in PATH, and its arguments.
        log: Made with mode 0600.
        append: False: what ``log`` holds is thrown away first.
        keep: Descriptors that it inherits, under their numbers.
        environment: Variables that are set beside those of this process.
        fed: True: its standard input is a pipe from us, which ends when we end, however we end.
            False: it is empty.
        umask: Its umask; -1: that of this process.

    Raises:
        OSError: There is no such program, ``log`` cannot be opened, no process can be started.
    """
    with open(log, "ab" if append else "wb", opener=_private) as output:
        return BackgroundProcess(
            command,
            stdin=subprocess.PIPE if fed else subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            pass_fds=tuple(keep),
            env={**os.environ, **(environment or {})},
            start_new_session=True,
            umask=umask,
        )


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CLOEXEC, 0o600)
