"""What goes on on this host: who holds it, what is paused, what is scheduled, past runs."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.api import Backend
from harness.core import paths
from harness.core.errors import HarnessError
from harness.core.extras import missing
from harness.core.settings import Config
from harness.core.timebase import NS_PER_S, SYSTEM_CLOCK, Deadline
from harness.host.advice import way_on
from harness.host.lifecycle import STARTING, GuestState
from harness.host.lock import Holder, holder, noted_state_dirs
from harness.host.protocol import GuestInfo
from harness.results.folder import all_runs
from harness.results.in_progress import RunNow, look, runs_in_progress
from harness.results.unfinished import Searched, search

if TYPE_CHECKING:  # an extra
    from harness.events.store import Store

#: For asking libvirt who is paused; its silence is reported.
_LOOK_S = 10.0


@dataclass(frozen=True)
class PastRun:
    """A run that is over, by its record."""

    run_id: str
    outcome: str
    guests: int
    pause_window_s: float | None
    """The longest of its update domains."""
    finished_s_ago: float | None


@dataclass(frozen=True)
class Coming:
    """An event that guests have been told of, or a maintenance for later."""

    what: str
    guests: tuple[str, ...]
    state: str
    not_before_ns: int
    """CLOCK_REALTIME; 0: at once."""
    approved_by: str | None = None
    """The guest that had it start earlier; None: not approved, or nothing that is approved."""


@dataclass(frozen=True)
class Status:
    """One look; stamps without another word are CLOCK_REALTIME."""

    uri: str
    now_ns: int
    now_boottime_ns: int
    holder: Holder | None
    going_on: tuple[RunNow, ...]
    dead: tuple[RunNow, ...]
    unreadable: tuple[str, ...]
    """Dead runs of which no journal can be read, by id."""
    reached: bool
    """Whether libvirt has told which guests are paused."""
    paused: tuple[str, ...]
    """Guests that libvirt says are paused and that no run here holds."""
    starting: Mapping[str, str]
    """Of those, and of those that a dead run holds, the guests whose start libvirt may have given
    up, and what helps."""
    coming: tuple[Coming, ...]
    past: tuple[PastRun, ...]
    problems: tuple[str, ...]
    """What could not be looked at."""

    @property
    def needs_a_person(self) -> bool:
        """Whether something is left that no process of harness will finish."""
        return bool(self.dead or self.unreadable or self.paused or self.problems)

    def ago_s(self, stamp_ns: int) -> float:
        """Return how long ago a stamp of CLOCK_REALTIME was, seconds; negative: it is to come."""
        return (self.now_ns - stamp_ns) / NS_PER_S

    def for_s(self, boottime_ns: int) -> float:
        """Return how long ago a stamp of CLOCK_BOOTTIME was, seconds; negative: it is to come."""
        return (self.now_boottime_ns - boottime_ns) / NS_PER_S

    def as_data(self) -> dict[str, Any]:
        """For JSON: paused_s and left_s say the same as people read."""
        return {
            "uri": self.uri,
            "reached": self.reached,
            "holder": asdict(self.holder) if self.holder else None,
            "running": [self._run(one) for one in self.going_on],
            "dead": [*(self._run(one) for one in self.dead)],
            "unreadable": list(self.unreadable),
            "paused_by_others": list(self.paused),
            "starting": dict(self.starting),
            "scheduled": [asdict(one) for one in self.coming],
            "runs": [asdict(one) for one in self.past],
            "problems": list(self.problems),
        }

    def _run(self, one: RunNow) -> dict[str, Any]:
        return {
            "run_id": one.folder.run_id,
            "started_ns": one.started_ns,
            "pid": one.pid,
            "user": one.user,
            "update": one.update,
            "guests": list(one.guests),
            "update_domain": one.domain,
            "held": [
                {
                    "name": guest.name,
                    "uuid": guest.uuid,
                    "custody": guest.custody,
                    "paused_s": None if guest.since_ns is None else self.for_s(guest.since_ns),
                    "left_s": None if guest.until_ns is None else -self.for_s(guest.until_ns),
                }
                for guest in one.held
            ],
        }


def take_status(config: Config, state_dir: Path, runs: int, backend: Backend) -> Status:
    """Look at lock, journals, events and guests; ``runs``: so many past ones. Never raises ours."""
    problems: list[str] = []
    places = _places(config.uri, state_dir)
    searched = [search(place) for place in places]
    problems += [f"{one.state_dir}: {one.refused}" for one in searched if one.refused and one.there]
    going_on = tuple(run for place in places for run in runs_in_progress(place))
    dead, unreadable = _dead(searched)
    held = {guest.uuid for run in (*going_on, *dead) for guest in run.held}
    stopped = _paused(config, backend, problems)
    return Status(
        config.uri,
        SYSTEM_CLOCK.realtime_ns(),
        SYSTEM_CLOCK.boottime_ns(),
        holder(config.uri),
        going_on,
        dead,
        unreadable,
        stopped is not None,
        tuple(one.name for one in stopped or () if one.uuid not in held),
        _starting(config.uri, stopped or (), {one.uuid for run in going_on for one in run.held}),
        _coming(config, state_dir, problems),
        tuple(_past(state_dir, runs, going_on)),
        tuple(problems),
    )


def _places(uri: str, state_dir: Path) -> list[Path]:
    """Ours, and those where other runs of this host have been; of each, if it can be read."""
    known = [state_dir, *paths.known_state_dirs(), *noted_state_dirs(uri)]
    return [one for one in dict.fromkeys(known) if one == state_dir or _is_there(one)]


def _is_there(path: Path) -> bool:
    try:
        return (path / "runs").is_dir()
    except OSError:
        return False


def _dead(searched: Sequence[Searched]) -> tuple[tuple[RunNow, ...], tuple[str, ...]]:
    found, unreadable = [], []
    for folder in (folder for one in searched for folder in one.dead):
        try:
            now = look(folder)
        except HarnessError:
            now = None
        if now is None:
            unreadable.append(folder.run_id)
        else:
            found.append(now)
    return tuple(found), tuple(unreadable)


def _paused(config: Config, backend: Backend, problems: list[str]) -> list[GuestInfo] | None:
    """Return the paused guests; None if libvirt does not tell."""
    try:
        with backend.connect(config) as hypervisor:
            guests = hypervisor.guests(Deadline.after(_LOOK_S))
    except HarnessError as error:
        problems.append(str(error))
        return None
    return [one for one in guests if one.state.state is GuestState.PAUSED]


def _starting(uri: str, paused: Sequence[GuestInfo], ours: Collection[str]) -> dict[str, str]:
    """What helps guests that libvirt says it is starting, unless a run that lives sees to them."""
    return {
        one.name: way_on(one.state, uri, one.name, one.uuid)
        for one in paused
        if one.state.reason == STARTING and one.uuid not in ours
    }


def _coming(config: Config, state_dir: Path, problems: list[str]) -> tuple[Coming, ...]:
    """Events that guests see, and maintenances for later; none where there is no store."""
    if missing("events"):
        return ()
    from harness.events.shared import SharedStore
    from harness.events.store import Store
    from harness.events.store_file import FILE_NAME

    own = (state_dir / FILE_NAME).exists()
    shared = SharedStore.of(config.events, config.fleet)
    found: list[Coming] = []
    try:
        if own or shared is not None:
            with Store(state_dir, shared=shared) as store:
                found += _events(store)
        if own:
            with Store(state_dir) as store:  # what is for later is always this host's alone
                found += _later(store)
    except HarnessError as error:
        problems.append(str(error))
    return tuple(found)


def _events(store: Store) -> Iterator[Coming]:
    """Yield the events of this host's guests that are not over; others may be in the store too."""
    from harness.events.document import State

    for one in store.events(State.PLANNED, State.SCHEDULED, State.STARTED):
        if one.host == store.host:
            what, guests = f"event {one.event.event_id}", tuple(one.event.resources)
            not_before_ns = one.event.not_before_ns
            yield Coming(what, guests, one.state.value, not_before_ns, one.approved_by)


def _later(store: Store) -> Iterator[Coming]:
    from harness.events.scheduler import scheduled

    for one in scheduled(store):
        if one.state == "waiting":
            what = f"maintenance #{one.number}"
            yield Coming(what, one.order.guests, one.state, one.start_ns)


def _past(state_dir: Path, wanted: int, going_on: Sequence[RunNow]) -> list[PastRun]:
    now_s = SYSTEM_CLOCK.realtime_ns() / NS_PER_S
    found: list[PastRun] = []
    live = {one.folder.path for one in going_on}
    for folder in all_runs(state_dir):
        if len(found) >= wanted:
            break
        if folder.path in live:
            continue
        try:
            record = folder.record()
        except HarnessError:
            continue
        ended = record.finished_at
        windows = [guest.pause_window_s for guest in record.guests]
        found.append(
            PastRun(
                record.run_id,
                record.outcome.value,
                len(record.guests),
                max((one for one in windows if one is not None), default=None),
                now_s - ended.timestamp() if ended else None,
            )
        )
    return found
