"""``harness doctor``: can this host run a maintenance, and how is what is missing fixed?"""

from __future__ import annotations

from pathlib import Path

import click
from rich.text import Text

from harness.cli.commands.common import (
    connection_options,
    json_option,
    load_config,
    out,
    print_json,
)
from harness.core.paths import state_dir
from harness.results.report.words import printable


@click.command(epilog="Example: harness doctor --json | jq '.findings[] | select(.level!=\"ok\")'")
@connection_options
@json_option
@click.pass_context
def command(ctx: click.Context, config_file: Path | None, uri: str | None, as_json: bool) -> None:
    """Look at this box and the configured guests; say what is wrong and how to fix it.

    Exit code 0 if a maintenance could be tried, 3 if not.
    """
    from harness.cli.doctor import examine
    from harness.cli.finding import Level

    styles = {Level.OK: "green", Level.WARNING: "yellow", Level.PROBLEM: "bold red"}
    config = load_config(config_file, {"uri": uri}).config
    console = out()
    findings = []
    for finding in examine(config, state_dir()):
        findings.append(finding)
        if as_json:
            continue
        level = Text(f"{finding.level:<8}", style=styles[finding.level])
        console.print(
            Text.assemble(level, printable(f" {finding.name}: {finding.detail}")), soft_wrap=True
        )
        if finding.fix:
            console.print(Text(printable(f"{'':9}fix: {finding.fix}")), soft_wrap=True)
    if as_json:
        # "mend" is what "fix" was called in version 0.1.
        print_json({"findings": [{**vars(found), "mend": found.fix} for found in findings]})
    ctx.exit(3 if any(finding.level is Level.PROBLEM for finding in findings) else 0)
