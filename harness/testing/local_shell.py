"""A GuestShell whose guest is this machine: the programs for guests, as real processes."""

from __future__ import annotations

import subprocess
from contextlib import suppress

from harness.core.errors import ProbeError
from harness.core.timebase import SYSTEM_CLOCK, Deadline
from harness.guest.protocol import Completed, Language, Way


class LocalStream:
    """A LineStream to a local process."""

    def __init__(self, command: str, guest: str) -> None:
        self.guest = guest
        self.process = subprocess.Popen(
            ["sh", "-c", command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert self.process.stdin
        assert self.process.stdout
        self._stdin, self._stdout = self.process.stdin, self.process.stdout

    def ask(self, line: str, deadline: Deadline) -> tuple[int, str, int]:
        sent_ns = SYSTEM_CLOCK.monotonic_ns()
        try:
            self._stdin.write(line + "\n")
            self._stdin.flush()
        except (BrokenPipeError, ValueError) as error:
            raise ProbeError("the remote loop ended", guest=self.guest) from error
        return sent_ns, *self.listen(deadline)

    def listen(self, deadline: Deadline) -> tuple[str, int]:
        answer = self._stdout.readline()
        if not answer:
            raise ProbeError("the remote loop ended", guest=self.guest)
        return answer.removesuffix("\n"), SYSTEM_CLOCK.monotonic_ns()

    def close(self) -> None:
        if not self._stdin.closed:
            with suppress(BrokenPipeError):  # it was killed before it read everything
                self._stdin.close()
            self.process.wait(10)
            self._stdout.close()


class LocalShell:
    """Remembers what it has started."""

    guest = "here"
    speaks = Language.SH
    way = Way("127.0.0.1", peer="127.0.0.1")
    """As if this were another machine: ``is_here`` is False."""

    def __init__(self) -> None:
        self.streams: list[LocalStream] = []

    def run(self, command: str, deadline: Deadline, *, check: bool = True) -> Completed:
        done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, timeout=30)
        return Completed(done.returncode, done.stdout, done.stderr)

    def stream(self, command: str, deadline: Deadline) -> LocalStream:
        stream = LocalStream(command, self.guest)
        self.streams.append(stream)
        return stream

    def close(self) -> None:
        for stream in self.streams:
            stream.close()
