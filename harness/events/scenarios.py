"""Scenarios played to guests without pausing a guest, so that clients can be tested."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from harness.core.durations import scaled
from harness.core.errors import UsageError
from harness.core.signals import Interruption
from harness.core.timebase import NS_PER_S, SYSTEM_CLOCK, Clock, Stopwatch
from harness.events.document import Event, EventType, Source, State
from harness.events.scheduler import owner_of_process
from harness.events.schema import Member, faults
from harness.events.store import Store

_LOOK_S = 0.02
#: Until then a fault lasts, if no process is left to end it.
_LONGEST_FAULT_NS = 3600 * NS_PER_S

Say = Callable[[str], None]


@dataclass(frozen=True)
class Scenario:
    """What guests go through; seconds, of which only the notice is ever scaled."""

    event_type: EventType
    description: str
    notice_s: float
    impact_s: float
    cancelled: bool = False
    one_guest: bool = False
    """It hits the guest that is named; else each update domain of its set, one at a time."""
    at_once: bool = False
    """Started without having been announced."""


SCENARIOS = {
    "live-migration": Scenario(
        EventType.FREEZE, "Virtual machine is being moved to another host.", 900, 5, one_guest=True
    ),
    "host-maintenance": Scenario(
        EventType.REBOOT, "Host server is undergoing maintenance.", 900, 90
    ),
    "cancelled": Scenario(
        EventType.FREEZE, "Host server is undergoing maintenance.", 900, 5, cancelled=True
    ),
    "hardware-failure": Scenario(
        EventType.REDEPLOY,
        "Host server has failed; the virtual machine is being redeployed.",
        0,
        300,
        one_guest=True,
        at_once=True,
    ),
    "short-notice": Scenario(EventType.FREEZE, "Urgent host maintenance.", 10, 5, one_guest=True),
}


class Rehearsal:
    """Plays scenarios through the store that the server reads."""

    def __init__(
        self,
        store: Store,
        interruption: Interruption,
        say: Say,
        *,
        time_scale: float = 1.0,
        impact_s: float | None = None,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        """``time_scale`` shortens notices. ``impact_s``: how long Started lasts, None: as real.

        Started is not scaled with the notice: a client that polls each second would not see it.
        """
        self._store = store
        self._interruption = interruption
        self._say = say
        self._scale = time_scale
        self._impact_s = impact_s
        self._clock = clock

    def play(self, name: str, guest: str, fault: str | None = None) -> None:
        """Play one scenario to a guest and its set. Raises UsageError, Interrupted."""
        if name not in SCENARIOS:
            raise UsageError(f"no scenario {name!r}", hint=f"there are {', '.join(SCENARIOS)}")
        members = self._store.members()
        hit = next((member for member in members if guest in (member.name, member.uuid)), None)
        if hit is None:
            known = ", ".join(member.name for member in members)
            raise UsageError("no such guest", guest=guest, hint=f"known: {known or 'none'}")
        scenario = SCENARIOS[name]
        self._set_fault(hit.scope, fault)
        try:
            for domain, names in _domains(scenario, hit, members):
                self._play(scenario, name, hit.scope, domain, names)
        finally:
            self._set_fault(hit.scope, None)

    def _set_fault(self, scope: str, fault: str | None) -> None:
        until_ns = self._clock.realtime_ns() + _LONGEST_FAULT_NS
        with self._store.changing() as db:
            db.execute(sa.delete(faults).where(faults.c.scope == scope))
            if fault is not None:
                row = {"scope": scope, "kind": fault, "until_ns": until_ns}
                db.execute(sa.insert(faults).values(row))

    def _play(
        self, scenario: Scenario, name: str, scope: str, domain: str, names: Sequence[str]
    ) -> None:
        impact_s = scenario.impact_s if self._impact_s is None else self._impact_s
        event = Event(
            event_id="",
            event_type=scenario.event_type,
            resources=tuple(names),
            state=State.PLANNED,
            not_before_ns=0,
            description=scenario.description,
            source=Source.PLATFORM,
            duration_s=impact_s,
        )
        owner = owner_of_process(os.getpid(), f"rehearsal of {name}")
        ids = [self._store.plan(scope, domain, event, owner=owner)]
        try:
            if not scenario.at_once and not self._announced(scenario, ids, names):
                return
            self._store.start(ids)
            self._say(
                f"started {ids[0]}: {scenario.event_type} of {', '.join(names)}, for {impact_s:g} s"
            )
            self._wait(impact_s)
        finally:
            self._store.end(ids)
            self._store.cancel(ids)
            self._say(f"removed {ids[0]}")

    def _announced(self, scenario: Scenario, ids: Sequence[str], names: Sequence[str]) -> bool:
        """Announce and wait; return whether it is to start then."""
        notice_s = scaled(scenario.notice_s, self._scale)
        at_ns = self._clock.realtime_ns() + round(notice_s * NS_PER_S)
        not_before_ns = -(-at_ns // NS_PER_S) * NS_PER_S
        self._store.announce(ids, not_before_ns)
        self._say(f"scheduled {ids[0]}: {scenario.event_type} of {', '.join(names)}")
        if scenario.cancelled:
            self._wait(notice_s / 2)
            return False
        while self._clock.realtime_ns() < not_before_ns:
            approved_by = self._store.find(ids[0]).approved_by
            if approved_by is not None:
                self._say(f"approved by {approved_by}")
                break
            self._wait(_LOOK_S)
        return True

    def _wait(self, seconds: float) -> None:
        watch = Stopwatch(self._clock)
        while (left_s := seconds - watch.elapsed_s()) > 0:
            self._interruption.check()
            self._interruption.pause(left_s)
        self._interruption.check()


def _domains(
    scenario: Scenario, hit: Member, members: Sequence[Member]
) -> list[tuple[str, list[str]]]:
    if scenario.one_guest:
        return [(hit.update_domain, [hit.name])]
    peers = [member for member in members if member.scope == hit.scope]
    found = sorted({member.update_domain for member in peers})
    return [(domain, [m.name for m in peers if m.update_domain == domain]) for domain in found]
