"""``harness run``: the maintenance."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from harness import api
from harness.cli import collectors, telling
from harness.cli.commands.common import (
    err,
    json_option,
    load_config,
    looking,
    moving,
    out,
    print_json,
    say,
    show_config_option,
    spoken,
)
from harness.cli.commands.common import show_config as print_config
from harness.cli.commands.maintenance_options import (
    maintenance_options,
    maintenance_settings,
    run_options,
)
from harness.cli.commands.refusals import tell_error
from harness.core.config import Loaded
from harness.core.errors import ConfigError, GuestStranded, guests_of
from harness.core.paths import state_dir
from harness.core.settings import Config
from harness.core.timebase import utc_now
from harness.fleet.outside.place import is_carried_out_there
from harness.maintenance.plan import Plan
from harness.maintenance.progress import Observer, Step
from harness.results.report.spoken import printable

if TYPE_CHECKING:
    from harness.maintenance.run import Finished, Part
    from harness.results.rollout import Asked


@click.command(
    epilog="""\b
Examples:
  harness run web1 web2 --update "./apply-patch.sh --now"
  harness run --dry-run                    plan only, touch nothing
  harness run web1 --budget 10 --json      for programs; run.json on stdout
  harness run --notify 15m                 guests are notified, and may approve it earlier
  harness run --rollout kernel-11 --detach --json      once, for a fleet
"""
)
@maintenance_options
@run_options
@click.option("--not-before", type=int, hidden=True, help="Earliest pause, ns since 1970.")
@click.option("--scheduled", type=int, hidden=True, help="Carry out this scheduled maintenance.")
@show_config_option
@json_option
@click.pass_context
def command(
    ctx: click.Context,
    /,
    config_file: Path | None,
    uri: str | None,
    guests: tuple[str, ...],
    dry_run: bool,
    show_config: bool,
    as_json: bool,
    not_before: int | None,
    scheduled: int | None,
    no_report: bool,
    rollout: str | None,
    detach: bool,
    **options: Any,
) -> None:
    """Pause guests, apply an update to the host, resume them, correct their clocks, check.

    GUEST is a libvirt name, a UUID or a pattern such as 'web*', which stands for guests that are
    up; without any, the guests of the configuration. Update domains
    are done one at a time; after one that is not healthy the others are left alone.
    """
    if detach and rollout is None:
        raise ConfigError("needs an ID to find the run by", key="--detach", hint="--rollout ID")
    if scheduled is not None:
        settings, guests, not_before = _as_scheduled(scheduled)
    else:
        settings = maintenance_settings(uri, options)
    loaded = load_config(config_file, settings)
    if show_config:
        print_config(loaded, as_json)
    elif is_carried_out_there(loaded.config.uri, loaded.config.updates):
        ctx.exit(_there(loaded, guests, rollout, dry_run, as_json=as_json, report=not no_report))
    elif dry_run:
        show_plan(loaded, guests, as_json=as_json)
    elif rollout is not None:
        asked = _asked(guests, settings, config_file, not_before)
        ctx.exit(_rolled_out(rollout, asked, loaded, as_json, report=not no_report, detach=detach))
    else:
        begin_ns, report = not_before or 0, not no_report
        ctx.exit(maintain(loaded, guests, as_json=as_json, not_before_ns=begin_ns, report=report))


def _as_scheduled(number: int) -> tuple[dict[str, Any], tuple[str, ...], int]:
    """What was scheduled under ``number``: settings, guests, earliest pause (ns)."""
    from harness.events.scheduler import find_scheduled
    from harness.events.store import Store

    with Store(state_dir()) as store:
        one = find_scheduled(store, number)
    return {**one.order.settings, "events.notice_s": one.notice_s}, one.order.guests, one.start_ns


def _asked(
    guests: tuple[str, ...],
    settings: dict[str, Any],
    config_file: Path | None,
    not_before_ns: int | None,
) -> Asked:
    from harness.results.rollout import Asked

    file = config_file.absolute() if config_file else None
    return Asked(
        guests=guests, settings=settings, config_file=file, not_before_ns=not_before_ns or 0
    )


def _there(
    loaded: Loaded,
    guests: tuple[str, ...],
    rollout: str | None,
    dry_run: bool,
    *,
    as_json: bool,
    report: bool,
) -> int:
    """The host carries it out itself: this process would not outlive its kernel there."""
    from harness.cli.outside import plan_there, run_there

    if not dry_run:
        return run_there(loaded, guests, rollout, as_json=as_json, report=report)
    plan_there(loaded, guests, rollout, as_json=as_json)
    return 0


def _rolled_out(
    rollout: str, asked: Asked, loaded: Loaded, as_json: bool, *, report: bool, detach: bool
) -> int:
    from harness.cli.rollout import begin_or_find, tell
    from harness.results.rollout import RolloutFolder

    folder = RolloutFolder(state_dir(), rollout)
    answer = begin_or_find(folder, asked, loaded, report=report, detach=detach)
    return tell(answer, folder, as_json=as_json)


def show_plan(loaded: Loaded, guests: tuple[str, ...], *, as_json: bool) -> None:
    """Print the plan of a maintenance, with its warnings; nothing is touched."""
    from harness.cli.commands.plan import print_plan

    with looking(f"looking at {loaded.config.uri} and its guests"):
        planned = api.plan(loaded.config, guests)
    for window in (planned, *planned.later):
        _warn(window.plan)
    print_plan(planned, loaded.config, as_json=as_json)


def maintain(
    loaded: Loaded,
    guests: tuple[str, ...],
    *,
    as_json: bool,
    not_before_ns: int = 0,
    report: bool = True,
) -> int:
    """Plan and carry out one maintenance; print it; return the exit code."""
    finished = carry_out(
        loaded, guests, not_before_ns=not_before_ns, show=not as_json, report=report
    )
    print_finished(finished, as_json)
    conclude(finished, config=loaded.config, show=False, report=report)
    if finished.error is not None:
        raise finished.error
    return finished.record.exit_code


def carry_out(
    loaded: Loaded,
    guests: tuple[str, ...],
    *,
    not_before_ns: int = 0,
    part: Part | None = None,
    show: bool,
    report: bool,
) -> Finished:
    """Plan and carry out one maintenance, watched; return its last run, not told of yet.

    ``show``: print the runs of earlier windows; ``report``: make reports of those.
    """
    telling.check(loaded.config.notify)
    collectors.check(loaded.config)
    with ExitStack() as planning:
        planning.enter_context(looking(f"looking at {loaded.config.uri} and its guests"))
        return api.maintain(
            loaded.config,
            guests,
            config_file=loaded.file,
            not_before_ns=not_before_ns,
            part=part,
            observe=partial(_watched, loaded.config, planning.close),
            between=partial(conclude, config=loaded.config, show=show, report=report),
        )


def conclude(finished: Finished, *, config: Config, show: bool, report: bool) -> None:
    """Tell of a run that is over, and make its reports; print it if ``show``. Never raises."""
    if show:
        print_finished(finished, as_json=False)
    with spoken():
        if finished.error is not None:  # that does not wait for a page, nor hide behind it
            tell_error(finished.error)
    with spoken():
        for problem in telling.of_run(finished, config.notify):
            say(f"warning: {problem}")
        for problem in collectors.tell_of_run(finished.folder, config, state_dir()):
            say(f"warning: {problem}")
    if report:
        _make_reports(finished)


def _warn(plan: Plan) -> None:
    for warning in plan.warnings:
        say(f"warning: {warning}")


@contextmanager
def _watched(config: Config, planned: Callable[[], None], plan: Plan) -> Iterator[Observer]:
    """Say what should be known beforehand, then show each step; ``planned``: there is a plan."""
    from harness.results.unfinished import dead_runs, how_it_ended

    planned()
    _warn(plan)
    for dead in dead_runs(state_dir()):
        say(f"run {dead.run_id} {how_it_ended(dead)}")
    if not moving():
        yield _say_step
        return
    from harness.cli.live import watching

    with watching(plan, config.budget_s, config.resume_reserve_s, err()) as observer:
        yield observer


def _say_step(step: Step) -> None:
    where = f"update domain {step.domain}: " if step.domain is not None else ""
    who = f" [{', '.join(step.guests)}]" if step.guests else ""
    say(f"{utc_now():%H:%M:%S}  {where}{step.text}{who}")


def print_finished(finished: Finished, as_json: bool) -> None:
    """Print what a run found: a table, or its record as JSON. Never raises."""
    with spoken():
        if as_json:
            print_json(finished.record.model_dump(mode="json"))
        elif finished.record.guests:
            from harness.results.report.table import print_run

            # On a terminal the error follows at once; a file is read without it.
            both = out().is_terminal and err().is_terminal
            error = finished.error if both else None
            said = [str(one) for one in guests_of(error).values()]
            print_run(finished.record, out(), finished.folder.path, said)


def _make_reports(finished: Finished) -> None:
    """When everything else is over and said: a report that fails is a warning."""
    from harness.results.publish import finish

    with spoken():
        try:
            warnings = finish(finished.folder)
        except KeyboardInterrupt:  # the run is over, and its exit code stays
            warnings = ["no report was written: interrupted (harness report --format html)"]
        for warning in warnings:
            say(f"warning: {warning}")
        if not warnings and not isinstance(finished.error, GuestStranded):  # the last word
            page = finished.folder.path / "report.html"
            err().print(printable(f"report:     {page}"), markup=False, soft_wrap=True, style="dim")
