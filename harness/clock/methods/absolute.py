"""By a time of day: stale on arrival, so it is sent early, by what the way is known to cost."""

from __future__ import annotations

from harness.clock.agents import Ability
from harness.clock.methods.protocol import Change, Method
from harness.clock.target import Reach
from harness.core.timebase import NS_PER_S, Deadline

#: How far ahead a whole second must be so that a command for it can be sent in time.
_LEAD_S = 0.02
#: Of the time from starting ``date`` to its end, what has passed when it sets the clock.
_SET_AFTER = 0.8
#: No more than this is believed: too late is corrected by going on, too early by going back.
_MOST_LATENCY_S = 0.030
#: Nor more than this for others: no clock is to be set wrong by more than it may be.
_MOST_EARLIER_S = 0.015


class DateAtSecond(Method):
    """``date -s`` of a whole second, sent so that it takes effect just then.

    For guests with nothing but a shell, whose ``date`` knows whole seconds only. The command is
    sent early: by half the reading's round trip and by what starting ``date`` takes, which the
    agent in the guest has measured; in a second attempt, by what the first was late, up to
    0.2 s. Of several that are set at the same second on a busy machine each is sent a ``date``
    earlier than the last.
    """

    name = "date-at-second"

    def obstacle(self, reach: Reach) -> str | None:
        """See :class:`Method`."""
        if Ability.DATE in reach.sampler.abilities:
            return None
        return f"{reach.sampler.interpreter} has better"

    def apply(self, reach: Reach, change: Change, deadline: Deadline) -> None:
        """See :class:`Method`."""
        clock = reach.clock
        starting_s = min(_MOST_LATENCY_S, _SET_AFTER * reach.sampler.date_latency_s)
        way_s = change.reading.uncertainty_s + starting_s
        way_s += min(_MOST_EARLIER_S, reach.turn.beside * reach.sampler.date_latency_s)
        early_ns = max(0, round((way_s + change.late_s) * NS_PER_S))
        ahead_ns = round((_LEAD_S + change.target_s) * NS_PER_S) + early_ns
        # The second, in the guest's time, that comes up next after all of that.
        second = (clock.realtime_ns() + ahead_ns) // NS_PER_S + 1
        send_at_ns = second * NS_PER_S - round(change.target_s * NS_PER_S) - early_ns
        clock.sleep(max(0, send_at_ns - clock.realtime_ns()) / NS_PER_S)
        reach.sampler.set_second(second, deadline)


class GuestAgent(Method):
    """``guest-set-time`` with nanoseconds, through libvirt.

    Ahead by half of what one ``guest-get-time`` takes right before; in a second attempt, also by
    what the first was late.
    """

    name = "guest-agent"

    def obstacle(self, reach: Reach) -> str | None:
        """See :class:`Method`."""
        return None if reach.agent is not None else "there is no way to a guest agent here"

    def apply(self, reach: Reach, change: Change, deadline: Deadline) -> None:
        """See :class:`Method`."""
        assert reach.agent is not None
        asked = reach.agent.get(deadline)
        way_ns = (asked.received_ns - asked.sent_ns) // 2
        ahead_ns = way_ns + round((change.late_s + change.target_s) * NS_PER_S)
        reach.agent.set(reach.clock.realtime_ns() + ahead_ns, deadline)
