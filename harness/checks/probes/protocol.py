"""What a probe is, and what it may use."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from harness.checks.probes.programs import python3_program, python3_text, sh_program
from harness.core.errors import HarnessError, MissingCapability, ProbeError
from harness.core.settings import ChecksSection, OwnCheckSection
from harness.core.timebase import SYSTEM_CLOCK, Clock, Deadline
from harness.guest.facts import GuestFacts, GuestOs
from harness.guest.protocol import GuestShell, LineStream, Looks, Python
from harness.host.protocol import ProcessIdentity

#: Starting a python3 in an emulated guest that has other things to do.
_START_S = 20.0
#: What a guest without python3 may answer to one question.
_MOST_BYTES = 4 << 20


@dataclass
class Scene:
    """One guest, as its probes see it."""

    name: str
    uuid: str
    address: str
    remote: GuestShell
    facts: GuestFacts
    process: ProcessIdentity | None
    """None: QEMU cannot be seen from here (remote host, no right)."""
    settings: ChecksSection
    folder: Path
    """Where raw material of this guest is kept; made by the first writer."""
    run_id: str = ""
    run_dir: Path = Path()
    update_domain: tuple[str, ...] = ()
    """All guests that are paused together."""
    own: tuple[OwnCheckSection, ...] = ()
    """The user's own checks that this guest answers for."""
    parts: frozenset[str] = frozenset()
    """What the program in the guest must be able to do."""
    clock: Clock = SYSTEM_CLOCK
    python: Python | None = None
    """What runs a python3 program in the guest at once; None: the shell starts one."""
    looks: Looks | None = None
    """What looks around in a guest without python3 at once; None: the shell starts one."""
    _program: LineStream | None = field(default=None, repr=False)
    _refusal: HarnessError | None = field(default=None, repr=False)
    _sh: LineStream | None = field(default=None, repr=False)
    _sh_refusal: HarnessError | None = field(default=None, repr=False)
    _ports: tuple[str, int, int] | None = field(default=None, repr=False)

    def ask(self, question: str, deadline: Deadline) -> str:
        """Ask the program in the guest, which is started by the first question.

        Raises MissingCapability where there is no python3, ProbeError for a refusal.
        """
        if self._refusal is not None:
            raise self._refusal
        if self._program is None:
            try:
                self._program = self._start(deadline.sooner(_START_S))
            except HarnessError as error:
                self._refusal = error
                raise
        try:
            answer = self._program.ask(question, deadline)[1]
        except HarnessError as error:
            self._refusal = error  # an answer that comes late would be taken for the next one
            raise
        return checked(answer, self.name)

    def ask_sh(self, question: str, deadline: Deadline) -> list[str]:
        """Ask the program in a guest that has no python3, as ``ask``; it answers in lines."""
        if self._sh_refusal is not None:
            raise self._sh_refusal
        try:
            if self.looks is not None:
                return list(self.looks.look(question, deadline).lines)
            if self._sh is None:
                self._sh = self.remote.stream(sh_program(), deadline.sooner(_START_S))
                expect_ready(self._sh, deadline, self.name)
            lines = [self._sh.ask(question, deadline)[1]]
            left = _MOST_BYTES
            while lines[-1] != "." and left > 0:
                left -= len(lines[-1])
                lines.append(self._sh.listen(deadline)[0])
            if lines.pop() != ".":
                raise ProbeError("its answer does not end", guest=self.name)
        except HarnessError as error:
            self._sh_refusal = error
            raise
        return lines

    def echo_ports(self, token: str, version: str, deadline: Deadline) -> tuple[str, int, int]:
        """``(token, udp port, tcp port)`` of the echo in the guest; opened once."""
        if self._ports is None:
            udp, tcp = self.ask(f"echo {version} {token}", deadline).split()
            self._ports = token, int(udp), int(tcp)
        return self._ports

    def close(self) -> None:
        """End the programs in the guest; never raises."""
        for one in (self._program, self._sh):
            if one is not None:
                one.close()

    def _start(self, deadline: Deadline) -> LineStream:
        if "python3" not in self.facts.interpreters:
            raise MissingCapability("python3", "the guest has no python3")
        if self.python is not None:
            program = self.python.start(python3_text(self.parts), deadline)
        else:
            program = self.remote.stream(python3_program(self.parts), deadline)
        expect_ready(program, deadline, self.name)
        return program


def expect_ready(program: LineStream, deadline: Deadline, guest: str) -> None:
    """Wait for a program's first line. Raises ProbeError, having ended it."""
    try:
        said = program.listen(deadline)[0]
        if said != "ready":
            raise ProbeError(f"the probe in the guest says {said[:80]!r}", guest=guest)
    except HarnessError:
        program.close()
        raise


def checked(answer: str, guest: str) -> str:
    """The answer of a program. Raises ProbeError if it is an error."""
    if answer.startswith("error"):
        raise ProbeError(answer.removeprefix("error").lstrip(": ")[:200], guest=guest)
    return answer


class Probe(ABC):
    """One who watches one guest. ``start`` → ``mark`` → ``pausing`` → (pause) → ``stop``.

    Or only ``close``.
    """

    tells: ClassVar[type]
    """The type of its testimony."""
    part: ClassVar[str | None] = None
    """The part of the program in the guest that it asks, if it does."""
    serves: ClassVar[frozenset[GuestOs]] = frozenset({GuestOs.LINUX})
    """The guests that it can watch; in others its checks are skipped."""

    @abstractmethod
    def start(self, scene: Scene, deadline: Deadline) -> None:
        """Begin to watch. Raises a HarnessError if it cannot: its checks are skipped then."""

    def mark(self, deadline: Deadline) -> None:
        """The last look before the pause, when all have started, those of the other guests too."""
        return

    def pausing(self) -> None:
        """The guest is about to be paused: in a tenth of a second or so."""
        return

    def paused(self) -> None:
        """The guest has just been paused. In the pause window: quick, never blocks."""
        return

    def resuming(self) -> None:
        """The guest is about to be resumed. In the pause window: quick, never blocks."""
        return

    @abstractmethod
    def stop(self, deadline: Deadline) -> object:
        """Stop watching and tell, when the clock is right. Raises a HarnessError if it cannot."""

    def close(self) -> None:
        """Let go of everything, told or not. Idempotent, never raises."""
        return
