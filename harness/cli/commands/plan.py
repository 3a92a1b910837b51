"""``harness plan``: update domains and their order; touches nothing."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from harness import api
from harness.cli.commands.common import (
    json_option,
    looking,
    out,
    print_json,
    say,
    show_config_option,
)
from harness.cli.commands.common import show_config as print_config
from harness.cli.commands.maintenance_options import (
    load_maintenance,
    maintenance_options,
    run_options,
)
from harness.cli.commands.refusals import Spoken
from harness.core.paths import state_dir
from harness.core.settings import Config
from harness.fleet.outside.place import is_carried_out_there
from harness.maintenance.plan import Plan
from harness.results.report.words import printable
from harness.results.rollout import RolloutFolder
from harness.updates.protocol import HostUpdate, SeveralUpdates


@click.command(
    epilog="""\b
Examples:
  harness plan                             the guests of harness.toml
  harness plan web1 web2 --update ./apply-patch.sh --expected 12
"""
)
@maintenance_options
@run_options
@show_config_option
@json_option
def command(
    config_file: Path | None,
    uri: str | None,
    guests: tuple[str, ...],
    show_config: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Show the update domains and their order; nothing is touched.

    It takes every option of run, and what cannot be done safely is refused here already, with the
    reason.
    """
    if options["rollout"] is not None:
        RolloutFolder(state_dir(), options["rollout"])  # refuses what cannot be an ID
    loaded = load_maintenance(config_file, uri, options)
    if show_config:
        print_config(loaded, as_json)
        return
    if options["rollout"] is not None and RolloutFolder(state_dir(), options["rollout"]).goes_on():
        _tell_that_it_goes_on(options["rollout"], as_json)
        return
    if is_carried_out_there(loaded.config.uri, loaded.config.updates):
        from harness.cli.outside import plan_there

        plan_there(loaded, guests, options["rollout"], as_json=as_json)
        return
    config = loaded.config
    with looking(f"looking at {config.uri} and its guests"):
        planned = api.plan(config, guests)
    for window in (planned, *planned.later):
        for warning in window.plan.warnings:
            say(f"warning: {warning}")
    print_plan(planned, config, as_json=as_json)


def print_plan(
    planned: api.Planned, config: Config, *, as_json: bool, more: Mapping[str, Any] | None = None
) -> None:
    """The plan on stdout, as a table, or as JSON, with what ``more`` there is to say."""
    if as_json:
        later = [_as_data(one.plan, config, one.update) for one in planned.later]
        plan = {**_as_data(planned.plan, config, planned.update), "later": later}
        print_json(_envelope({**plan, **(more or {})}))
        return
    windows = (planned, *planned.later)
    for number, window in enumerate(windows, 1):
        if planned.later:
            out().print(f"window {number} of {len(windows)}: {window.update.kind}")
        _print_window(window.plan, window.update, config)


def _print_window(plan: Plan, update: HostUpdate, config: Config) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("#", "update domain", "guest", "availability set", "state", "accelerator"):
        table.add_column(column)
    for number, domain in enumerate(plan.domains, start=1):
        for guest in domain.guests:
            cells = (
                str(number),
                domain.name,
                guest.name,
                guest.availability_set or "–",
                str(guest.info.state),
                guest.info.accelerator,
            )
            table.add_row(*(Text(printable(cell)) for cell in cells))
    out().print(table)
    out().print(
        f"update: {update.kind}, scope {update.scope}, expected {update.expected_s:.3g} s "
        f"({update.expected_from}); budget {config.budget_s:g} s a domain, of which "
        f"{config.resume_reserve_s:g} s are kept for resuming",
        soft_wrap=True,
    )


def _tell_that_it_goes_on(rollout: str, as_json: bool) -> None:
    """Its guests may be paused now, which a plan would refuse."""
    from harness.results.answer import Answer, Ending

    if as_json:
        answer = Answer(rollout=rollout, outcome=Ending.PASS, exit_code=0, goes_on=True)
        print_json(answer.model_dump(mode="json"))
    say(f"rollout {rollout} goes on: harness run --rollout {rollout} would wait for it")


def _envelope(plan: dict[str, Any]) -> dict[str, Any]:
    """Return a plan as it is, or under a rollout in the document that every command prints."""
    if Spoken.rollout is None:
        return plan
    from harness.results.answer import Answer, Ending

    answer = Answer(
        rollout=Spoken.rollout,
        outcome=Ending.PASS,
        exit_code=0,
        already=RolloutFolder(state_dir(), Spoken.rollout).is_done(),
        plan=plan,
    )
    return answer.model_dump(mode="json")


def _as_data(plan: Plan, config: Config, update: HostUpdate) -> dict[str, Any]:
    parts = update.parts if isinstance(update, SeveralUpdates) else (update,)
    return {
        "update": {
            "kind": update.kind,
            "command": list(update.command),
            "scope": update.scope.value,
            "expected_s": update.expected_s,
            "expected_from": update.expected_from,
        },
        "updates": [{"kind": one.kind, "command": list(one.command)} for one in parts],
        "budget_s": config.budget_s,
        "resume_reserve_s": config.resume_reserve_s,
        "update_domains": [
            {
                "name": domain.name,
                "guests": [
                    {
                        "name": guest.name,
                        "uuid": guest.info.uuid,
                        "availability_set": guest.availability_set,
                        "accelerator": guest.info.accelerator,
                    }
                    for guest in domain.guests
                ],
            }
            for domain in plan.domains
        ],
        "warnings": list(plan.warnings),
    }
