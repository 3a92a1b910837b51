"""``harness experiment``: a grid of runs, or guests held for looking around."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from harness.cli.commands.common import (
    connection_options,
    duration_option,
    json_option,
    load_config,
    out,
    print_json,
    say,
    show_config_option,
)
from harness.cli.commands.common import show_config as print_config
from harness.cli.commands.hold import hold_guests
from harness.core.errors import UsageError
from harness.core.paths import state_dir
from harness.results.report.spoken import printable

if TYPE_CHECKING:
    from harness.cli.experiment.conduct import Experiment
    from harness.core.config import Loaded


@click.command(
    epilog="""\b
Examples:
  harness experiment sweep.toml            run what is left of it; results, pictures
  harness experiment sweep.toml --dry-run  every cell in its order; touches nothing
"""
)
@click.argument("what", nargs=-1, metavar="SWEEP.TOML")
@click.option("--hold", is_flag=True, hidden=True, help="As harness hold GUEST...")
@duration_option("--budget", "budget_s", "With --hold: longest pause.", bare=True, hidden=True)
@click.option("--dry-run", is_flag=True, help="Show the cells and stop.")
@connection_options
@show_config_option
@json_option
@click.pass_context
def command(
    ctx: click.Context,
    /,
    config_file: Path | None,
    uri: str | None,
    what: tuple[str, ...],
    hold: bool,
    budget_s: float | None,
    dry_run: bool,
    show_config: bool,
    as_json: bool,
) -> None:
    """Carry out the grid of SWEEP.TOML in random order; go on where it was interrupted.

    A broken promise is a result, not a failure: the exit code is 0 when every cell is done.
    """
    if hold:
        hold_guests(what, config_file, uri, budget_s, as_json=as_json)
        return
    if show_config:
        print_config(load_config(config_file, {"uri": uri}), as_json)
        return
    if len(what) != 1 or budget_s is not None:
        raise UsageError("expected one sweep file", hint="harness experiment sweep.toml")
    from harness.cli.experiment.conduct import Experiment
    from harness.cli.experiment.sweep import load

    loaded = load_config(config_file, {"uri": uri})
    experiment = Experiment(load(Path(what[0])), state_dir())
    if dry_run:
        _show(experiment, as_json)
        return
    _conduct(experiment, loaded, as_json)


def _conduct(experiment: Experiment, loaded: Loaded, as_json: bool) -> None:
    from harness.api import maintain
    from harness.cli.commands.history_output import print_table
    from harness.cli.experiment.summary import HEADINGS, summary
    from harness.cli.experiment.tidy import write

    say(f"{len(experiment.left)} of {len(experiment.cells)} cells, seed {experiment.seed}")
    carry_out = partial(maintain, config_file=loaded.file, label="experiment")
    error = experiment.conduct(loaded.config, carry_out, say)
    files, warnings = write(experiment)
    for warning in warnings:
        say(f"warning: {warning}")
    if as_json:
        print_json({
            "folder": experiment.folder,
            "seed": experiment.seed,
            "cells": len(experiment.cells),
            "done": len(experiment.done),
            "files": files,
        })  # fmt: skip
    else:
        if rows := summary(experiment):
            print_table(HEADINGS, rows)
        for file in files:
            click.echo(file)
    if error is not None:
        say(f"{len(experiment.left)} cells are left; the same command goes on with them")
        raise error


def _show(experiment: Experiment, as_json: bool) -> None:
    cells = [{"cell": c.number, "repeat": c.repeat, "guests": c.guests, **c.settings}
             for c in experiment.left]  # fmt: skip
    if as_json:
        print_json({"seed": experiment.seed, "left": cells})
        return
    for cell in experiment.left:
        out().print(printable(f"{cell.number:4}  {cell.described()}"), markup=False, soft_wrap=True)
