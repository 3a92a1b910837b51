"""Programs that the clock agent in a guest runs for us, over its own channel (``python3`` only).

Its interpreter runs already. Another takes an emulated guest half a second to start, and so does
what comes before it: a channel, a login shell, a shell.
"""

from __future__ import annotations

from harness.clock.sampling import Sampler
from harness.core.errors import ProbeError
from harness.core.timebase import Deadline
from harness.guest.protocol import LineStream

_SHOWN = 200


class Programs:
    """A :class:`harness.guest.protocol.Python`."""

    def __init__(self, sampler: Sampler) -> None:
        """``sampler`` is one whose agent can: see :class:`harness.clock.agents.Ability`."""
        self._sampler = sampler

    def evaluate(self, source: str, deadline: Deadline) -> str:
        """See :class:`harness.guest.protocol.Python`."""
        answer = self._sampler.tell("e", source.encode().hex(), deadline).text
        if answer.startswith("error"):
            raise ProbeError(answer[:_SHOWN], guest=self._sampler.guest)
        try:
            return bytes.fromhex(answer.removeprefix("-")).decode(errors="replace")
        except ValueError as error:
            said = f"its python3 answers nonsense: {answer[:_SHOWN]!r}"
            raise ProbeError(said, guest=self._sampler.guest) from error

    def start(self, source: str, deadline: Deadline) -> LineStream:
        """See :class:`harness.guest.protocol.Python`."""
        first = self._sampler.tell("b", source.encode().hex(), deadline)
        return _Child(self._sampler, (first.text, first.received_ns))


class _Child:
    """A :class:`harness.guest.protocol.LineStream`; it ends with the agent, or with the next."""

    def __init__(self, sampler: Sampler, first: tuple[str, int]) -> None:
        self._sampler = sampler
        self._first = [first]

    def ask(self, line: str, deadline: Deadline) -> tuple[int, str, int]:
        answer = self._sampler.tell("y", line, deadline)
        return answer.sent_ns, answer.text, answer.received_ns

    def listen(self, deadline: Deadline) -> tuple[str, int]:
        if not self._first:
            raise ProbeError("the program says nothing unasked", guest=self._sampler.guest)
        return self._first.pop()

    def close(self) -> None:
        """Nothing is sent for that: a guest that is silent would be waited for."""
