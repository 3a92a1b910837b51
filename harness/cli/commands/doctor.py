"""``harness doctor``: can this host run a maintenance, and how is what is missing fixed?"""

from __future__ import annotations

from pathlib import Path

import click
from rich.text import Text

from harness.cli.commands import completion
from harness.cli.commands.common import (
    connection_options,
    json_option,
    load_config,
    out,
    print_json,
    say,
)
from harness.core.paths import state_dir
from harness.results.report.words import printable


@click.command(
    epilog="""\b
Examples:
  harness doctor                  this host, and the guests of harness.toml, else all that run
  harness doctor web1 web2        these guests, whatever the configuration says
  harness doctor --json | jq '.findings[] | select(.level != "ok")'
"""
)
@click.argument("guests", nargs=-1, metavar="[GUEST]...", shell_complete=completion.guests)
@connection_options
@json_option
@click.pass_context
def command(
    ctx: click.Context,
    /,
    config_file: Path | None,
    uri: str | None,
    guests: tuple[str, ...],
    as_json: bool,
) -> None:
    """Look at this host and its guests; say what is wrong and how to fix it.

    Of each guest: whether the login works, what may set its clock and by which interpreter, its
    time daemon, the round trip against its tolerance, and whether its QEMU can be replaced. No
    configuration is needed. Nothing is changed.

    Exit code 0 if a maintenance could be tried, 3 if not.
    """
    from harness.cli.doctor import examine
    from harness.cli.finding import Level

    styles = {Level.OK: "green", Level.WARNING: "yellow", Level.PROBLEM: "bold red"}
    config = load_config(config_file, {"uri": uri}).config
    console = out()
    findings = []
    if not as_json:
        say(f"looking at {config.uri} and its guests…")
    for finding in examine(config, state_dir(), guests=guests):
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
