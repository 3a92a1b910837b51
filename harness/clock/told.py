"""A guest's clock as its guest agent tells it, where no clock agent can run.

``guest-get-time`` and ``guest-set-time`` answer the questions of :mod:`harness.clock.agents`, so
that the same sampler asks them.
"""

from __future__ import annotations

from harness.clock.agent_time import RESOLUTION_NS, AgentClock
from harness.core.errors import ProbeError
from harness.core.timebase import SYSTEM_CLOCK, Clock, Deadline
from harness.guest.facts import GuestOs

#: How the sampler's interpreter is called then.
GUEST_AGENT = "guest-agent"


class ToldClock:
    """A :class:`harness.guest.protocol.LineStream` that no process answers."""

    def __init__(
        self,
        guest: str,
        agent: AgentClock,
        *,
        sets: bool,
        os: GuestOs = GuestOs.LINUX,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self._guest = guest
        self._agent = agent
        self._sets = sets
        self._resolution_ns = RESOLUTION_NS[os]
        self._clock = clock

    def ask(self, line: str, deadline: Deadline) -> tuple[int, str, int]:
        """Answer one question. Raises HypervisorError, DeadlineExpired."""
        what, number, *_ = line.split(" ")
        sent_ns = self._clock.monotonic_ns()
        if what == "r":
            said = f"told {self._agent.get(deadline).guest_ns} {self._resolution_ns}"
        elif what == "h":
            said = "hello"
        elif what == "a":
            said = "ok" if self._sets else "failed the guest agent lacks guest-set-time"
        else:
            said = "none"
        return sent_ns, f"{number} {said}", self._clock.monotonic_ns()

    def listen(self, deadline: Deadline) -> tuple[str, int]:
        """Raise ProbeError: nothing comes by itself."""
        raise ProbeError("the guest agent says nothing unasked", guest=self._guest)

    def close(self) -> None:
        """Do nothing: there is no process."""
