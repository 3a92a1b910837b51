"""A host's run is begun and followed over however many connections it takes.

One ID is one run of the host (docs/adr/0034-rollout-contract.md): the same command begins it, waits
for it, and finds it done. So a connection that is lost, by the kexec or otherwise, costs another
login and the same command, and nothing has to be known of how far the host was.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass

from harness.core.errors import ConfigError, HarnessError, HostKeyRejected, InfrastructureError
from harness.core.timebase import NS_PER_S, SYSTEM_CLOCK, Clock
from harness.fleet.outside.connection import HostConnection, HostGone, NoAnswer, Reached
from harness.fleet.outside.place import Place
from harness.guest.protocol import Connector
from harness.results.answer import Answer

#: Between two logins that are tried.
_TRY_AGAIN_S = 1.0


class HostAway(InfrastructureError):
    """The host was not heard of any more within its limit."""


@dataclass(frozen=True)
class Followed:
    """What the host answered in the end, and for how long it could not be reached."""

    answer: Answer
    unreachable_s: float | None
    """The longest gap between the last line and the next login; None: there was none."""


class Follower:
    """Follows one run."""

    def __init__(
        self,
        place: Place,
        connector: Connector,
        *,
        return_s: float,
        say: Callable[[str], object],
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        """``return_s``: how long the host may be silent; ``say`` gets what people should read."""
        self._place = place
        self._connector = connector
        self._return_s = return_s
        self._say = say
        self._clock = clock
        self._heard_ns = clock.monotonic_ns()
        self._lost = False
        self._longest_ns: int | None = None
        self._unanswered_ns: int | None = None
        """Since when commands end there without an answer."""
        self._said = ""

    def meet(self) -> Reached:
        """Log in and look whether the host can be given a run; nothing is begun.

        Raises HarnessError.
        """
        with closing(self._open()) as connection:
            return connection.greet()

    def follow(self, words: Sequence[str]) -> Followed:
        """Give ``harness WORDS`` until it is answered, by one connection after the other.

        Raises HostAway when the host is silent for too long, ConfigError for an SSH configuration
        that cannot be used.
        """
        self._heard_ns = self._clock.monotonic_ns()
        while True:
            try:
                with closing(self._open()) as connection:
                    self._back()
                    answer = connection.follow(words, self._heard, self._tell)
                    return Followed(answer, self._longest_s())
            except ConfigError:
                raise
            except HarnessError as error:
                self._broke(error)
            self._clock.sleep(_TRY_AGAIN_S)

    def _open(self) -> HostConnection:
        return HostConnection.open(self._place, self._connector, self._clock)

    def _heard(self) -> None:
        self._heard_ns = self._clock.monotonic_ns()

    def _back(self) -> None:
        now_ns = self._clock.monotonic_ns()
        if self._lost:
            gap_ns = now_ns - self._heard_ns
            self._longest_ns = max(self._longest_ns or 0, gap_ns)
            self._tell(f"{self._place.host} answers again, after {gap_ns / NS_PER_S:.1f} s")
        self._lost = False
        self._heard_ns = now_ns

    def _broke(self, error: HarnessError) -> None:
        """Note what failed; raise HostAway when that has lasted for too long."""
        now_ns = self._clock.monotonic_ns()
        silent_s = (now_ns - self._heard_ns) / NS_PER_S
        if isinstance(error, NoAnswer):  # a file system may not be mounted yet
            self._unanswered_ns = self._unanswered_ns or now_ns
            silent_s = (now_ns - self._unanswered_ns) / NS_PER_S
            self._tell(error.message)
            if silent_s > self._return_s:
                raise _away(self._place, silent_s, error) from error
            return
        self._unanswered_ns = None
        if not self._lost and isinstance(error, HostGone):
            self._tell(
                f"{self._place.host} fell silent: another kernel may be on its way; waiting up to "
                f"{self._return_s:g} s for it"
            )
        elif isinstance(error, HostKeyRejected):  # an initrd may have an SSH daemon of its own
            self._tell(f"{self._place.host} is not logged in to: {error}")
        self._lost = True
        if silent_s > self._return_s:
            raise _away(self._place, silent_s, error) from error

    def _tell(self, line: str) -> None:
        if line != self._said:
            self._say(line)
        self._said = line

    def _longest_s(self) -> float | None:
        return None if self._longest_ns is None else self._longest_ns / NS_PER_S


def _away(place: Place, silent_s: float, last: HarnessError) -> HostAway:
    changed = isinstance(last, HostKeyRejected)
    return HostAway(
        f"{place.host} has not answered for {silent_s:.0f} s; whether its guests run is not known. "
        f"Last: {last.message}",
        hint=(
            f"compare the key at the console of {place.host} before anything is trusted"
            if changed
            else f"look at the console of {place.host}"
        )
        + "; its run is finished there by harness-complete.service or harness recover",
    )
