"""Every dead run of this machine is finished: all guests are resumed first, then clocks corrected.

Dead runs are looked for in every known state folder. Those of this user are followed; what another
user's journal says is reported and not acted on, because it may say anything. In the end every
guest of each libvirt is looked at once more, and the report is what was seen then.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from harness.core.errors import HarnessError, InternalError
from harness.core.fanout import fan_out
from harness.core.signals import Interruption
from harness.core.timebase import SYSTEM_CLOCK, Clock, Deadline
from harness.host.protocol import Hypervisor
from harness.maintenance.recovery.clock import LogIn
from harness.maintenance.recovery.kept_ram import kept_ram
from harness.maintenance.recovery.paused_guests import PausedGuest, is_ours, paused_guests
from harness.maintenance.recovery.record import Action, RunRecovery
from harness.maintenance.recovery.recover import assess, finish, rescue
from harness.results.folder import RunFolder
from harness.results.journal import FILE_NAME, Journal, fold, read
from harness.results.unfinished import Searched, search

#: For listing the guests of a libvirt.
_LOOK_S = 20.0
#: For state folders of others, which may be on a disk that does not answer.
_SEARCH_S = 10.0

Connect = Callable[[], AbstractContextManager[Hypervisor]]


@dataclass(frozen=True)
class RunSettings:
    """What recovering one run takes beside its journal."""

    uri: str
    connect: Connect
    patience_s: float
    """How long a resume is tried."""
    clocks_s: float
    """How long correcting the clocks of one run may take."""
    log_in: Callable[[Hypervisor], LogIn]
    notes: tuple[str, ...] = ()
    """What of the run's configuration could not be read."""


@dataclass(frozen=True)
class Recovery:
    """What became of all dead runs, and what was seen of all guests in the end."""

    runs: tuple[RunRecovery, ...] = ()
    paused: tuple[PausedGuest, ...] = ()
    """Guests that are paused beside those that ``runs`` tells of."""
    searched: tuple[Searched, ...] = ()
    """The state folders; whose were not followed is in ``not_followed``."""
    not_followed: tuple[RunFolder, ...] = ()
    """Dead runs of other users, and those elsewhere of whose guests none is known here."""
    looked_at: tuple[str, ...] = ()
    """The libvirts (URIs) of which every guest was looked at in the end."""
    not_looked_at: tuple[tuple[str, HarnessError], ...] = ()
    """The others, and why."""
    signal_name: str | None = None
    """The signal that ended it early: guests were resumed, not all clocks were corrected."""
    notes: tuple[str, ...] = ()
    """What was missing and could be done without."""

    @property
    def resumed(self) -> list[str]:
        """Guests that were resumed."""
        return [
            g.member.name for run in self.runs for g in run.guests if g.action is Action.RESUMED
        ]

    @property
    def still_paused(self) -> list[str]:
        """Guests that a run of harness paused, or lost to another program, and that are paused."""
        ours = [name for run in self.runs for name in run.paused]
        return [*ours, *(guest.name for guest in self.paused if guest.held_by is not None)]


@dataclass
class _Round:
    """One recovery: what is open while it goes on."""

    settings_of: Callable[[RunFolder], RunSettings]
    clock: Clock
    dry_run: bool
    stack: ExitStack
    links: dict[str, Hypervisor | HarnessError] = field(default_factory=dict)

    def link(self, uri: str, connect: Connect) -> Hypervisor:
        """Return the connection to a libvirt; one that failed is not tried again. Raises that."""
        if uri not in self.links:
            try:
                self.links[uri] = self.stack.enter_context(connect())
            except HarnessError as error:
                self.links[uri] = error
            except Exception as error:  # noqa: BLE001  a bug of one libvirt's is no other's
                self.links[uri] = InternalError(error)
        found = self.links[uri]
        if isinstance(found, HarnessError):
            raise found
        return found


@dataclass
class _OneRun:
    """A dead run that is being finished."""

    folder: RunFolder
    found: RunRecovery
    settings: RunSettings | None = None
    journal: Journal | None = None
    hypervisor: Hypervisor | None = None


def recover_all(
    chosen: Path,
    others: Callable[[], Iterable[Path]],
    settings_of: Callable[[RunFolder], RunSettings],
    look_at: Callable[[], tuple[str, Connect]],
    *,
    dry_run: bool = False,
    clock: Clock = SYSTEM_CLOCK,
) -> Recovery:
    """Finish every dead run; nothing that goes wrong with one ends the others.

    What a run in ``chosen`` takes comes first: another folder may be on a disk that hangs.

    Args:
        chosen: this state folder is followed whomever it belongs to.
        others: finds more state folders; given up after a while, as searching them is.
        settings_of: what each run takes; raises HarnessError.
        look_at: a libvirt (URI, and how to connect) of which every guest is looked at in the end,
            beside those of the runs.
        dry_run: only say what would be done.
        clock: where time comes from.
    """
    with ExitStack() as stack:
        interruption = stack.enter_context(Interruption())
        here = _Round(settings_of, clock, dry_run, stack)
        place = search(chosen)
        runs = _rescued(here, place.dead)
        searched = (place, *_search(others, clock))
        ours = [one for one in searched[1:] if one.dead and is_ours(one.state_dir)]
        runs += _rescued(here, [run for one in ours for run in one.dead if _is_here(run, here)])
        for run in runs:
            _guarded(run, lambda run: _finish(run, clock, interruption))
        seen = _look(here, look_at, runs, searched)
        followed = {run.folder for run in runs}
    return replace(
        seen,
        runs=tuple(run.found for run in runs),
        searched=searched,
        not_followed=tuple(one for at in searched for one in at.dead if one not in followed),
        signal_name=interruption.signal_name,
    )


def _rescued(here: _Round, dead: Iterable[RunFolder]) -> list[_OneRun]:
    runs = [_OneRun(folder, RunRecovery(folder)) for folder in dead]
    for run in runs:
        _guarded(run, lambda run: _rescue(run, here))
    return runs


def _search(others: Callable[[], Iterable[Path]], clock: Clock) -> tuple[Searched, ...]:
    """Search more state folders, each by itself: one that does not answer is reported."""
    until = Deadline.after(_SEARCH_S, clock)
    found = fan_out({"": others}, until, what="looking for state folders")[""]
    if found.value is None:
        return (Searched(Path("state folders of others"), refused=str(found.error)),)
    places = dict.fromkeys(found.value)
    looks = {str(place): partial(search, place) for place in places}
    answers = fan_out(looks, until, what="searching it")
    answered = (
        answers[str(place)].value or Searched(place, refused=str(answers[str(place)].error))
        for place in places
    )
    return tuple(one for one in answered if one.there)


def _is_here(folder: RunFolder, here: _Round) -> bool:
    """Return True if this libvirt knows a guest of the run.

    A run in another folder may be of another libvirt: that this one does not know its guests says
    nothing of them.
    """
    try:
        settings = here.settings_of(folder)
        link = here.link(settings.uri, settings.connect)
        until = Deadline.after(_LOOK_S, here.clock)
        known = {guest.uuid for guest in link.guests(until)}
        return not known.isdisjoint(fold(read(folder.path / FILE_NAME)).guests)
    except HarnessError:
        return False


def _guarded(run: _OneRun, step: Callable[[_OneRun], RunRecovery]) -> None:
    """Do one step of a run; an error of any class is this run's, and no other's."""
    try:
        run.found = step(run)
    except HarnessError as error:
        run.found = replace(run.found, error=error)
    except Exception as error:  # noqa: BLE001  a bug must not keep the next run's guests paused
        run.found = replace(run.found, error=InternalError(error))


def _rescue(run: _OneRun, here: _Round) -> RunRecovery:
    run.settings = settings = here.settings_of(run.folder)
    hypervisor = here.link(settings.uri, settings.connect)
    if here.dry_run:
        found = assess(run.folder, hypervisor, here.clock)
        return replace(found, notes=settings.notes)
    journal = here.stack.enter_context(Journal(run.folder.path, run.folder.run_id, here.clock))
    found = rescue(run.folder, journal, hypervisor, settings.patience_s, here.clock)
    run.journal, run.hypervisor = journal, hypervisor
    return replace(found, notes=settings.notes)


def _finish(run: _OneRun, clock: Clock, interruption: Interruption) -> RunRecovery:
    if run.journal is None or run.hypervisor is None or run.settings is None:
        return run.found  # a dry run, or one that could not be begun

    def go_on() -> bool:
        return interruption.signal_name is None

    until = Deadline.after(run.settings.clocks_s, clock)
    log_in = run.settings.log_in(run.hypervisor)
    return finish(run.found, run.journal, log_in, until, go_on)


def _look(
    here: _Round,
    look_at: Callable[[], tuple[str, Connect]],
    runs: Sequence[_OneRun],
    searched: Sequence[Searched],
) -> Recovery:
    """Look at every guest of every libvirt, and return those that are paused beside the runs'."""
    chosen, *others = (place.state_dir for place in searched)
    trusted = [chosen, *(one for one in others if is_ours(one))]
    wanted = {run.settings.uri: run.settings.connect for run in runs if run.settings is not None}
    told = {
        guest.member.uuid
        for run in runs
        for guest in run.found.guests
        if guest.paused or (here.dry_run and guest.action is Action.RESUMED)
    }
    paused: list[PausedGuest] = []
    looked_at: list[str] = []
    not_looked_at: list[tuple[str, HarnessError]] = []
    for uri, connect in (wanted | dict([look_at()])).items():
        try:
            link = here.link(uri, connect)
            until = Deadline.after(_LOOK_S, here.clock)
            found = paused_guests(link, searched, trusted, until)
        except HarnessError as error:
            not_looked_at.append((uri, error))
            continue
        except Exception as error:  # noqa: BLE001  what was done is reported all the same
            not_looked_at.append((uri, InternalError(error)))
            continue
        looked_at.append(uri)
        paused += [guest for guest in found if guest.uuid not in told]
    return Recovery(
        paused=tuple(paused),
        looked_at=tuple(looked_at),
        not_looked_at=tuple(not_looked_at),
        notes=kept_ram(told),
    )
