"""Plan a maintenance, and carry it out: window after window, where its updates take several."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from harness.api.backend import Backend
from harness.core import paths
from harness.core.closing import result_of
from harness.core.durations import scaled
from harness.core.settings import Config
from harness.core.timebase import utc_now
from harness.host.protocol import Hypervisor
from harness.maintenance.plan import Plan, sets_of
from harness.maintenance.progress import Observer, silent
from harness.updates.protocol import HostUpdate

if TYPE_CHECKING:  # `harness plan` should not have to load what only a run needs
    from harness.maintenance.run import Finished, Part


@dataclass(frozen=True)
class Planned:
    """What ``plan`` returns."""

    plan: Plan
    """Update domains in the order in which they would be done, and warnings."""
    update: HostUpdate
    """The update that would be applied, with its scope and expected duration; several are one."""
    later: tuple[Planned, ...] = ()
    """The windows after this one, where the updates take several; each is planned again when the
    one before it is over."""


@contextmanager
def _unobserved(plan: Plan) -> Iterator[Observer]:
    yield silent


def plan(
    config: Config,
    guests: Sequence[str] = (),
    *,
    state_dir: Path | None = None,
    backend: Backend | None = None,
) -> Planned:
    """Return the update domains of a maintenance and their order; changes nothing.

    Args:
        config: As ``load_config(...).config``.
        guests: libvirt names or UUIDs, or patterns for those that are up (``web*``); one that
            begins with ``!`` leaves guests out. None: the guests of the configuration.
        state_dir: Where earlier runs are, from whose durations an update's is expected; None:
            that of the command line.
        backend: None: libvirt and SSH.

    Raises:
        UsageError: What is asked for cannot be done safely, or makes no sense (ConfigError,
            PlanError, …).
        HypervisorError: The hypervisor does not answer, a guest is not there or not running.
    """
    from harness.fleet.leased import foresee_leases
    from harness.maintenance.earlier_clocks import foresee_clocks
    from harness.maintenance.set_windows import closed_sets

    backend = backend or Backend.real()
    state_dir = state_dir or paths.state_dir()
    first, *others = _windows(config, state_dir)
    with _surveyed(first, guests, state_dir, backend) as (planned, _):
        found = planned.plan
        far = foresee_clocks(found.guests, state_dir, config.clock.tolerance_s)
        leased = foresee_leases(config.fleet, found.guests, backend.clock)
        begins = _begins(config, backend)
        closed = closed_sets(config.availability_set, sets_of(found.guests), begins)
        return replace(
            planned,
            plan=replace(found, warnings=(*found.warnings, *far, *leased, *closed)),
            later=_foreseen(first, others, guests, state_dir, backend),
        )


def _begins(config: Config, backend: Backend) -> datetime:
    """Return when guests would be paused at the latest, if it were begun now."""
    notice_s = scaled(config.events.notice_s or 0.0, config.events.time_scale)
    return utc_now(backend.clock) + timedelta(seconds=notice_s)


def _windows(config: Config, state_dir: Path) -> list[Config]:
    """Return a configuration for each window that the updates take."""
    from harness.updates.configured import windows

    return [config.only(window) for window in windows(config.updates, config.uri, state_dir)]


def _foreseen(
    first: Config,
    others: Sequence[Config],
    guests: Sequence[str],
    state_dir: Path,
    backend: Backend,
) -> tuple[Planned, ...]:
    """Plan the windows after the first, as far as can be told before that one."""
    found = []
    follows = tuple(one.kind for one in first.updates)
    for window in others:
        with _surveyed(window, guests, state_dir, backend, follows) as (planned, _):
            found.append(planned)
        follows += tuple(one.kind for one in window.updates)
    return tuple(found)


@contextmanager
def _surveyed(
    config: Config,
    guests: Sequence[str],
    state_dir: Path,
    backend: Backend,
    follows: tuple[str, ...] = (),
) -> Iterator[tuple[Planned, Hypervisor]]:
    from harness.events.announcement import foresee_end
    from harness.maintenance.survey import survey
    from harness.updates.configured import make_update

    update = make_update(config.updates, config.uri, state_dir, follows)
    with backend.connect(config) as hypervisor:
        found = survey(config, guests, hypervisor, update, backend.clock)
        ends = foresee_end(config.events.notice_s, update, state_dir)
        yield Planned(replace(found, warnings=(*found.warnings, *ends)), update), hypervisor


def maintain(
    config: Config,
    guests: Sequence[str] = (),
    *,
    state_dir: Path | None = None,
    config_file: Path | None = None,
    not_before_ns: int = 0,
    label: str = "run",
    part: Part | None = None,
    observe: Callable[[Plan], AbstractContextManager[Observer]] = _unobserved,
    between: Callable[[Finished], object] = lambda finished: None,
    backend: Backend | None = None,
) -> Finished:
    """Carry out one maintenance: pause, update the host, resume, correct clocks, check.

    Several updates may take several windows: each is a run of its own, planned when the one before
    it has passed. After one that has not, the others are left alone.

    Args:
        config: As ``load_config(...).config``.
        guests: libvirt names or UUIDs, or patterns for those that are up (``web*``); one that
            begins with ``!`` leaves guests out. None: the guests of the configuration.
        state_dir: Where the run folder is made; None: that of the command line.
        config_file: For the process that tells guests beforehand, where one is configured.
        not_before_ns: Earliest pause, nanoseconds since 1970; counts only with a notice.
        label: How the run came about, for the history.
        part: The rollout that it is a part of; it hears of each run before it begins.
        observe: Called with the plan before anything is touched; its context manager gives an
            observer, called with a step each, never while guests are paused; for each window.
        between: Called with each window's run that passed, before the next window is planned.
        backend: None: libvirt and SSH.

    Returns:
        The record (``run.json``), the run folder, and the HarnessError that ended the run early,
        None if none did; GuestStranded there means that a guest is still paused. A broken promise
        is an outcome in the record, no error. Of several windows, those of the last one that was
        held; ``follows`` in its record names the run before.

    Raises:
        HarnessError: What fails before there is a run; no guest was paused. Of a window after the
            first: ``between`` was called with those before it, whose updates stay.
    """
    backend = backend or Backend.real()
    state_dir = state_dir or paths.state_dir()
    first, *others = _windows(config, state_dir)
    _foreseen(first, others, guests, state_dir, backend)  # refused before anything is changed
    hold = partial(
        _maintain,
        guests=guests,
        state_dir=state_dir,
        config_file=config_file,
        not_before_ns=not_before_ns,
        label=label,
        observe=observe,
        backend=backend,
    )

    def with_left(left: int) -> Part | None:
        return replace(part, left=left) if part is not None else None

    finished = hold(first, part=with_left(len(others)))
    for number, window in enumerate(others, 1):
        if finished.record.exit_code != 0:
            break
        between(finished)
        left = with_left(len(others) - number)
        finished = hold(window, follows=finished.record.run_id, part=left)
    return finished


def _maintain(
    config: Config,
    *,
    guests: Sequence[str],
    state_dir: Path,
    config_file: Path | None,
    not_before_ns: int,
    label: str,
    observe: Callable[[Plan], AbstractContextManager[Observer]],
    backend: Backend,
    follows: str | None = None,
    part: Part | None = None,
) -> Finished:
    """Hold one window."""
    from harness.events.announcement import announcement
    from harness.fleet.leased import leased
    from harness.maintenance.notice import Unannounced
    from harness.maintenance.run import run

    def carried_out(stack: ExitStack) -> Finished:
        surveyed = _surveyed(config, guests, state_dir, backend)
        planned, hypervisor = stack.enter_context(surveyed)
        observer = stack.enter_context(observe(planned.plan))
        told = announcement(
            config,
            planned.update,
            hypervisor,
            state_dir=state_dir,
            config_file=config_file,
            not_before_ns=not_before_ns,
        )
        unannounced = Unannounced(config.availability_set, backend.clock)
        notice = stack.enter_context(told) or unannounced
        after_s = config.mend_timeout_s + config.clock.watch_s
        hold_s = config.budget_s + config.resume_patience_s + after_s
        with_leases = stack.enter_context(
            leased(notice, config.fleet, hold_s=hold_s, clock=backend.clock)
        )
        return run(
            config,
            planned.plan,
            planned.update,
            hypervisor,
            backend.connector,
            state_dir=state_dir,
            observer=observer,
            notice=part.around(with_leases) if part is not None else with_leases,
            label=label,
            follows=follows,
            part=part,
            clock=backend.clock,
            guardian=backend.guardian,
        )

    return result_of(carried_out)  # the exit code is the record's, whatever closing brings
