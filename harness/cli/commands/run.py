"""``harness run``: the maintenance."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from harness import api
from harness.cli import telling
from harness.cli.commands.common import (
    duration_option,
    err,
    json_option,
    load_config,
    out,
    print_json,
    say,
    show_config_option,
    spoken,
)
from harness.cli.commands.common import show_config as print_config
from harness.cli.commands.maintenance_options import (
    load_maintenance,
    maintenance_options,
    notice_options,
)
from harness.cli.commands.parameters import OneOf
from harness.core.config import Loaded
from harness.core.errors import GuestStranded
from harness.core.paths import state_dir
from harness.core.settings import DEFAULT_METHODS, NotifySection
from harness.maintenance.plan import Plan
from harness.maintenance.progress import Observer
from harness.results.report.spoken import printable

if TYPE_CHECKING:
    from harness.maintenance.run import Finished


@click.command(
    epilog="""\b
Examples:
  harness run web1 web2 --update "./apply-patch.sh --now"
  harness run --dry-run                    plan only, touch nothing
  harness run web1 --budget 10 --json      for programs; run.json on stdout
  harness run --notify 15m                 guests are told, and may approve it earlier
"""
)
@maintenance_options
@notice_options
@click.option("--not-before", type=int, hidden=True, help="Earliest pause, ns since 1970.")
@click.option("--scheduled", type=int, hidden=True, help="Carry out this scheduled maintenance.")
@click.option("--no-correct", is_flag=True, help="Measure clocks, but do not correct them.")
@click.option("--allow-backward", is_flag=True, help="Allow setting a fast clock back.")
@click.option(
    "--restore-offset",
    is_flag=True,
    help="Put clocks back to the offset they had before, not to the host's clock.",
)
@click.option(
    "--method",
    "methods",
    multiple=True,
    type=OneOf(DEFAULT_METHODS, what="method"),
    help="Correct clocks only by this; repeatable.",
)
@duration_option("--watch", "watch_s", "Watch each clock for this long after its correction.")
@click.option(
    "--no-report",
    is_flag=True,
    envvar="HARNESS_NO_REPORT",
    help="Make no report.html and no entry in the history; both can be made later.",
)
@click.option("--dry-run", is_flag=True, help="Show the plan and stop; nothing is paused.")
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
    **options: Any,
) -> None:
    """Pause guests, apply an update to the host, resume them, correct their clocks, check.

    GUEST is a libvirt name, a UUID or a pattern such as 'web*', which stands for guests that are
    up; without any, the guests of the configuration. Update domains
    are done one at a time; after one that is not healthy the others are left alone.
    """
    if scheduled is not None:
        loaded, guests, not_before = _as_scheduled(config_file, scheduled)
    else:
        loaded = load_maintenance(config_file, uri, options)
    if show_config:
        print_config(loaded, as_json)
        return
    ctx.exit(
        maintain(
            loaded,
            guests,
            dry_run=dry_run,
            as_json=as_json,
            not_before_ns=not_before or 0,
            report=not no_report,
        )
    )


def _as_scheduled(
    config_file: Path | None, number: int
) -> tuple[Loaded, tuple[str, ...], int | None]:
    """What was scheduled under ``number``: configuration, guests, earliest pause (ns)."""
    from harness.events.scheduler import find_scheduled
    from harness.events.store import Store

    with Store(state_dir()) as store:
        one = find_scheduled(store, number)
    settings = {**one.order.settings, "events.notice_s": one.notice_s}
    return load_config(config_file, settings), one.order.guests, one.start_ns


def maintain(
    loaded: Loaded,
    guests: tuple[str, ...],
    *,
    dry_run: bool,
    as_json: bool,
    not_before_ns: int = 0,
    report: bool = True,
) -> int:
    """Plan and carry out one maintenance; print it; return the exit code."""
    if dry_run:
        from harness.cli.commands.plan import print_plan

        planned = api.plan(loaded.config, guests)
        for window in (planned, *planned.later):
            _warn(window.plan)
        print_plan(planned, loaded.config, as_json=as_json)
        return 0
    telling.check(loaded.config.notify)
    finished = api.maintain(
        loaded.config,
        guests,
        config_file=loaded.file,
        not_before_ns=not_before_ns,
        observe=partial(_watched, loaded.config.budget_s, loaded.config.resume_reserve_s),
        between=partial(_over, notify=loaded.config.notify, show=not as_json, report=report),
    )
    _print(finished, as_json)
    _over(finished, notify=loaded.config.notify, show=False, report=report)
    if finished.error is not None:
        raise finished.error
    return finished.record.exit_code


def _over(finished: Finished, *, notify: NotifySection, show: bool, report: bool) -> None:
    """Tell of a run that is over, and make its reports; on stdout only if ``show``."""
    if show:
        _print(finished, as_json=False)
    with spoken():
        for problem in telling.of_run(finished, notify):
            say(f"warning: {problem}")
    if report:
        _make_reports(finished)


def _warn(plan: Plan) -> None:
    for warning in plan.warnings:
        say(f"warning: {warning}")


@contextmanager
def _watched(budget_s: float, reserve_s: float, plan: Plan) -> Iterator[Observer]:
    """Say what should be known beforehand, then show each step."""
    from harness.cli.live import watching
    from harness.results.unfinished import dead_runs

    _warn(plan)
    for dead in dead_runs(state_dir()):
        say(f"run {dead.run_id} ended unexpectedly; finish it with: harness recover")
    with watching(plan, budget_s, reserve_s, err()) as observer:
        yield observer


def _print(finished: Finished, as_json: bool) -> None:
    from harness.results.report.table import print_run

    with spoken():
        if as_json:
            print_json(finished.record.model_dump(mode="json"))
        elif finished.record.guests:
            print_run(finished.record, out(), finished.folder.path)


def _make_reports(finished: Finished) -> None:
    """When everything else is over and said: a report that fails is a warning."""
    from harness.results.publish import finish

    if isinstance(finished.error, GuestStranded):  # that cannot wait for a page
        with spoken():
            err().print(printable(str(finished.error)), markup=False, style="bold red")
    with spoken():
        try:
            warnings = finish(finished.folder)
        except KeyboardInterrupt:  # the run is over, and its exit code stays
            warnings = ["no report was written: interrupted (harness report --format html)"]
        for warning in warnings:
            say(f"warning: {warning}")
        if not warnings:
            page = finished.folder.path / "report.html"
            err().print(printable(f"report:     {page}"), markup=False, soft_wrap=True, style="dim")
