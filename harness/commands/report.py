"""``harness report``: show a run again."""

from __future__ import annotations

import click

from harness.commands.common import json_option, out, print_json
from harness.paths import state_dir


@click.command(
    epilog="""\b
Examples:
  harness report                           the newest run
  harness report 3f9a2c                    by the end (or beginning) of its id
  harness report --json | jq .guests
"""
)
@click.argument("run", required=False)
@json_option
def command(run: str | None, as_json: bool) -> None:
    """Show RUN (id, part of one, or folder; default: the newest) as a table or as JSON."""
    from harness.report.table import print_run
    from harness.runfolder import find_run

    folder = find_run(state_dir(), run)
    record = folder.record()
    if as_json:
        print_json(record.model_dump(mode="json"))
    else:
        print_run(record, out(), folder.path)
