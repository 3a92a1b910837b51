"""A run's notice to its guests by Scheduled Events: announced, approved or due, started.

An update domain has an event for each availability set that it touches and for each of its guests
that is in none; its pause begins when every one of them is approved, or its time has come.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from pathlib import Path

from harness.core.durations import scaled
from harness.core.errors import EventError, HarnessError
from harness.core.records import NoticeRecord, PollRecord
from harness.core.settings import AvailabilitySetSection, EventsSection
from harness.core.signals import Interruption
from harness.core.timebase import NS_PER_S, SYSTEM_CLOCK, Clock, Deadline, Stopwatch, utc_now
from harness.events.document import Event, EventType, State, utc
from harness.events.membership import Scopes, spoken_scope
from harness.events.schema import Member, Stored
from harness.events.store import Store
from harness.maintenance.plan import Plan, UpdateDomain, sets_of
from harness.maintenance.set_windows import closed_sets, refuse_closed
from harness.results.journal import Journal, entries

_ALONE = Scopes()
#: So close to the time no wait is begun.
_STAY_S = 10.0
_CARE_S = 1.0


def owner_of_run(run_dir: Path) -> str:
    """What the store keeps about the process that drives an event: others notice its death."""
    return f"run {run_dir}"


class EventNotice:
    """For one run. ``keep_served`` is called now and then, so that guests go on being answered."""

    def __init__(
        self,
        store: Store,
        settings: EventsSection,
        sets: Sequence[AvailabilitySetSection],
        known: Callable[[], Sequence[Member]],
        *,
        duration_s: float,
        not_before_ns: int = 0,
        scopes: Scopes = _ALONE,
        leased: bool = False,
        keep_served: Callable[[], None] = lambda: None,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        """Announce by ``store``; nothing is written yet.

        ``sets`` say when each availability set may be paused, ``known`` which guests are on the
        host. ``duration_s``: how long guests are expected to stand still. ``not_before_ns``: the
        first domain is not paused earlier (CLOCK_REALTIME), however short the notice. ``scopes``
        name each guest's; ``leased``: the sets of an update domain are leased when it is announced.
        """
        self._store = store
        self._settings = settings
        self._sets = sets
        self._known = known
        self._duration_s = duration_s
        self._not_before_ns = not_before_ns
        self._scopes = scopes
        self._leased = leased
        self._keep_served = keep_served
        self._clock = clock
        self._ids: dict[str, list[str]] = {}
        self._due: Deadline | None = None
        self._began_ns = 0
        self._journal: Journal | None = None

    @property
    def notice_s(self) -> float:
        """From the announcement to the pause, in real seconds."""
        return scaled(self._settings.notice_s or 0.0, self._settings.time_scale)

    def begin(self, plan: Plan, run_dir: Path, journal: Journal) -> None:
        """Enrol every guest of the host, and plan every domain's events."""
        self._journal = journal
        self._began_ns = self._clock.realtime_ns()
        self._store.enrol(self._known())
        self._keep_served()
        for domain in plan.domains:
            self._ids[domain.name] = [
                self._store.plan(
                    scope, domain.name, self._event(names), owner=owner_of_run(run_dir)
                )
                for scope, names in _by_scope(domain, self._scopes).items()
            ]

    def _event(self, names: Sequence[str]) -> Event:
        seconds = math.ceil(self._duration_s)
        return Event(
            event_id="",
            event_type=EventType.FREEZE,
            resources=tuple(names),
            state=State.PLANNED,
            not_before_ns=0,
            description=f"Host maintenance: paused in memory for about {seconds} seconds.",
            duration_s=self._duration_s,
        )

    def announce(self, domain: UpdateDomain) -> str:
        """Publish the domain's events. Raises WindowClosed outside a set's window."""
        now_ns = self._clock.realtime_ns()
        earliest_ns = max(now_ns + round(self.notice_s * NS_PER_S), self._not_before_ns)
        not_before_ns = -(-earliest_ns // NS_PER_S) * NS_PER_S  # as guests can read it
        refuse_closed(self._sets, sets_of(domain.guests), utc(not_before_ns))
        self._not_before_ns = 0
        # Both clocks must agree that it is time: either may be set while we wait.
        self._due = Deadline.after((not_before_ns - now_ns) / NS_PER_S, self._clock)
        ids = self._ids[domain.name]
        self._store.announce(ids, not_before_ns, leased=self._leased)
        self._note(entries.Announced(domain.name, tuple(ids), not_before_ns))
        return f"announced for {utc(not_before_ns):%H:%M:%S} UTC; waiting for that, or approval"

    def wait(self, domain: UpdateDomain, seconds: float, interruption: Interruption) -> bool:
        """Look for approvals until it is approved or due; see :class:`Notice`.

        An approval before a set's window opens waits for that. Raises WindowClosed where the
        window has closed by the time that it is due.
        """
        asked, cared = Stopwatch(self._clock), Stopwatch(self._clock)
        version: int | None = None
        approved = False
        while True:
            interruption.check()
            now_version = self._store.version()
            if now_version != version:
                version = now_version
                approved = self._approved(domain)
            if (approved and self._is_open(domain)) or self._is_due(domain):
                break
            if asked.elapsed_s() >= seconds and self._left_s() > _STAY_S:
                return False
            if cared.elapsed_s() >= _CARE_S:
                self._care()
                cared = Stopwatch(self._clock)
            interruption.pause(self._store.look_s)
        refuse_closed(self._sets, sets_of(domain.guests), utc_now(self._clock))
        ids = self._ids[domain.name]
        self._store.start(ids)
        self._note(entries.Started(domain.name, tuple(ids), approved))
        return True

    def _left_s(self) -> float:
        return self._due.remaining_s() if self._due else 0.0

    def _care(self) -> None:
        try:
            self._keep_served()
        except HarnessError as error:
            self._note(entries.NotServed(str(error)))

    def _approved(self, domain: UpdateDomain) -> bool:
        """Whether every event of the domain is approved. Raises EventError if one is cancelled."""
        events = self._events(domain.name)
        for stored in events:
            if stored.state is State.CANCELLED:
                raise EventError(
                    f"event {stored.event.event_id} of {spoken_scope(stored.scope)} was cancelled"
                )
        return all(stored.approved_ns is not None for stored in events)

    def _is_open(self, domain: UpdateDomain) -> bool:
        return not any(closed_sets(self._sets, sets_of(domain.guests), utc_now(self._clock)))

    def _is_due(self, domain: UpdateDomain) -> bool:
        """By the wall clock of the announcement, and by one that cannot be set."""
        if self._due is None or not self._due.expired:
            return False
        latest_ns = max(stored.event.not_before_ns for stored in self._events(domain.name))
        return self._clock.realtime_ns() >= latest_ns

    def over(self, domain: UpdateDomain) -> None:
        """Remove the domain's events."""
        ids = self._ids.get(domain.name, [])
        self._store.end(ids)
        self._store.cancel(ids)
        self._note(entries.EventRemoved(domain.name, tuple(ids)))

    def close(self) -> None:
        """Cancel what has not started."""
        for ids in self._ids.values():
            self._store.cancel(ids)

    def record(self, domain_name: str) -> NoticeRecord | None:
        """What the store knows of a domain's events; None also if it cannot be read."""
        try:
            return notice_record(self._store, self._ids.get(domain_name, []), self._began_ns)
        except HarnessError:
            return None  # a record without it is better than none

    def _events(self, domain_name: str) -> list[Stored]:
        return [self._store.find(event_id) for event_id in self._ids.get(domain_name, [])]

    def _note(self, entry: entries.Entry) -> None:
        if self._journal is not None:
            self._journal.note(entry)


def notice_record(store: Store, event_ids: Sequence[str], began_ns: int) -> NoticeRecord | None:
    """Return what ``store`` knows of one update domain's events; None if it has none.

    ``began_ns``: guests' polls since then are of this run (CLOCK_REALTIME). Raises EventError.
    """
    events = [store.find(event_id) for event_id in event_ids]
    if not events:
        return None
    return NoticeRecord(
        event_ids=tuple(stored.event.event_id for stored in events),
        announced_at=_first(stored.announced_ns for stored in events),
        not_before=_first(stored.event.not_before_ns or None for stored in events),
        approved_at=_last([stored.approved_ns for stored in events]),
        approved_by=tuple(stored.approved_by for stored in events if stored.approved_by),
        started_at=_first(stored.started_ns for stored in events),
        removed_at=_last([stored.removed_ns for stored in events]),
        cancelled=any(stored.state is State.CANCELLED for stored in events),
        polls=tuple(
            PollRecord(guest=s.name, incarnation=s.incarnation, first_at=_precise(s.at_ns))
            for scope in dict.fromkeys(stored.scope for stored in events)
            for s in store.seen(scope, began_ns)
        ),
    )


def _by_scope(domain: UpdateDomain, named: Scopes) -> dict[str, list[str]]:
    scopes: dict[str, list[str]] = {}
    for guest in domain.guests:
        scope = named.name(guest.availability_set, guest.info.uuid)
        scopes.setdefault(scope, []).append(guest.name)
    return scopes


def _precise(at_ns: int) -> datetime:
    whole = utc(at_ns // NS_PER_S * NS_PER_S)
    return whole.replace(microsecond=at_ns % NS_PER_S // 1000)


def _first(stamps: Iterable[int | None]) -> datetime | None:
    known = [stamp for stamp in stamps if stamp is not None]
    return _precise(min(known)) if known else None


def _last(stamps: Sequence[int | None]) -> datetime | None:
    """When the last of them happened; None until all have."""
    known = [stamp for stamp in stamps if stamp is not None]
    return _precise(max(known)) if known and len(known) == len(stamps) else None
