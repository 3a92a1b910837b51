"""How far a rollout is, from what is known of its hosts. Pure.

A host is ``waiting`` (not begun, or refused "not now"), ``running``, ``soaking`` (between two of
its update domains), ``done`` (also where nothing was needed), ``failed``, ``died`` (its run was
found dead), or ``silent``: it should have said more by now. A wave is as the worst of its hosts;
when all are done it soaks.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from harness.core.errors import NOT_NEEDED, NOT_NOW
from harness.fleet.waves import Wave


class State(StrEnum):
    """Of a host, a wave or a rollout."""

    WAITING = "waiting"
    RUNNING = "running"
    SOAKING = "soaking"
    DONE = "done"
    FAILED = "failed"
    DIED = "died"
    SILENT = "silent"


#: One of these is what a person should look at, the first first.
TROUBLE = (State.DIED, State.SILENT, State.FAILED)
_NO_FAILURE = (0, NOT_NEEDED)


@dataclass(frozen=True)
class Part:
    """What a host told last of its part; stamps are of the database's clock."""

    host: str
    run_id: str
    doing: str
    soaking: bool
    began_s: float
    told_s: float
    due_s: float | None
    ended_s: float | None
    ending: str | None
    exit_code: int | None
    message: str | None
    pause_window_s: float | None = None
    residual_s: float | None = None
    guests: int | None = None


@dataclass(frozen=True)
class HostView:
    """One host of a rollout."""

    name: str
    state: State
    part: Part | None = None
    """None: it has told nothing."""


@dataclass(frozen=True)
class WaveView:
    """One wave, with how far its hosts are."""

    number: int
    """From 1; 0: hosts that no plan put into a wave."""
    canary: bool
    state: State
    hosts: tuple[HostView, ...]
    soaks_until_s: float | None = None
    """None: it does not soak, or its hosts are not done."""


@dataclass(frozen=True)
class RolloutView:
    """How far a rollout is."""

    state: State
    waves: tuple[WaveView, ...]
    current: WaveView | None
    """The first wave that is not over; None: all are."""

    @property
    def hosts(self) -> tuple[HostView, ...]:
        """Return every host, wave by wave."""
        return tuple(host for wave in self.waves for host in wave.hosts)

    @property
    def counts(self) -> Mapping[State, int]:
        """Return how many hosts are in each state."""
        found = Counter(host.state for host in self.hosts)
        return {state: found[state] for state in State}


def view(
    waves: Sequence[Wave], parts: Iterable[Part], *, soak_s: float, now_s: float
) -> RolloutView:
    """Return how far a rollout is at ``now_s``, by the database's clock.

    Args:
        waves: As they were planned; none for a rollout that was not.
        parts: What its hosts told.
        soak_s: From the end of a wave's last host to the beginning of the next wave.
        now_s: Seconds since 1970.
    """
    told = {part.host: part for part in parts}
    planned = {host for wave in waves for host in wave.hosts}
    others = sorted(told.keys() - planned)
    seen = [
        _wave(number, wave.canary, wave.hosts, told, soak_s if number < len(waves) else 0.0, now_s)
        for number, wave in enumerate(waves, 1)
    ]
    if others:
        seen.append(_wave(0, False, others, told, 0.0, now_s))
    current = next((wave for wave in seen if wave.state is not State.DONE), None)
    return RolloutView(_of_all([wave.state for wave in seen]), tuple(seen), current)


def _wave(
    number: int,
    canary: bool,
    names: Sequence[str],
    told: Mapping[str, Part],
    soak_s: float,
    now_s: float,
) -> WaveView:
    hosts = tuple(HostView(name, _state(told.get(name), now_s), told.get(name)) for name in names)
    state = _of_all([host.state for host in hosts])
    until_s = None
    if state is State.DONE and soak_s:
        ended = [h.part.ended_s for h in hosts if h.part is not None and h.part.ended_s is not None]
        until_s = max(ended, default=now_s) + soak_s
        state = State.SOAKING if now_s < until_s else state
    return WaveView(number, canary, state, hosts, until_s)


def _state(part: Part | None, now_s: float) -> State:
    if part is None:
        return State.WAITING
    if part.ended_s is not None:
        if part.exit_code in _NO_FAILURE:
            return State.DONE
        return State.WAITING if part.exit_code == NOT_NOW else State.FAILED
    if part.due_s is None:
        return State.DIED
    if part.due_s < now_s:
        return State.SILENT
    return State.SOAKING if part.soaking else State.RUNNING


def _of_all(states: Sequence[State]) -> State:
    """Return the state of the whole; nothing at all is done."""
    for state in (*TROUBLE, State.RUNNING, State.SOAKING):
        if state in states:
            return state
    if all(state is State.DONE for state in states):
        return State.DONE
    return State.RUNNING if State.DONE in states else State.WAITING
