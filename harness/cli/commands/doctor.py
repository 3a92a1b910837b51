"""``harness doctor``: can this host run a maintenance, and how is what is missing fixed?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

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

if TYPE_CHECKING:
    from harness.cli.finding import Finding
    from harness.core.settings import Config


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
    config = load_config(config_file, {"uri": uri}).config
    findings, code = tell_findings(config, state_dir(), guests, silent=as_json)
    if as_json:
        print_json({"findings": findings})
    ctx.exit(code)


def tell_findings(
    config: Config, state_dir: Path, guests: tuple[str, ...], *, silent: bool
) -> tuple[list[dict[str, object]], int]:
    """Look, and print each finding as soon as it is there unless ``silent``.

    Returns the findings for JSON, and the exit code that they mean. Raises UnknownGuest.
    """
    from harness.cli.doctor import examine
    from harness.cli.finding import Level

    findings = []
    if not silent:
        say(f"looking at {config.uri} and its guests…")
    for finding in examine(config, state_dir, guests=guests):
        findings.append(finding)
        if not silent:
            _print(finding)
    bad = any(finding.level is Level.PROBLEM for finding in findings)
    # "mend" is what "fix" was called in version 0.1.
    return [{**vars(found), "mend": found.fix} for found in findings], 3 if bad else 0


def _print(finding: Finding) -> None:
    from harness.cli.finding import Level

    styles = {Level.OK: "green", Level.WARNING: "yellow", Level.PROBLEM: "bold red"}
    console = out()
    level = Text(f"{finding.level:<8}", style=styles[finding.level])
    said = printable(f" {finding.name}: {finding.detail}")
    console.print(Text.assemble(level, said), soft_wrap=True)
    if finding.fix:
        console.print(Text(printable(f"{'':9}fix: {finding.fix}")), soft_wrap=True)
