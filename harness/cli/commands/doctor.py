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
    show_config_option,
)
from harness.cli.commands.common import show_config as print_config
from harness.cli.commands.parameters import OneOf
from harness.core.errors import UsageError
from harness.core.paths import state_dir
from harness.core.records import EXIT_CODES, Outcome
from harness.results.report.words import printable

if TYPE_CHECKING:
    from harness.cli.finding import Finding
    from harness.core.settings import Config


@click.command(
    epilog="""\b
Examples:
  harness doctor                  this host, and the guests of harness.toml, else all that run
  harness doctor web1 web2        these guests, whatever the configuration says
  harness doctor --prove windows win1    does harness work in this Windows? a report for its authors
  harness doctor --json | jq '.findings[] | select(.level != "ok")'
"""
)
@click.argument("guests", nargs=-1, metavar="[GUEST]...", shell_complete=completion.guests)
@connection_options
@click.option(
    "--prove",
    type=OneOf(("windows",), what="system"),
    help="Do in one guest all that harness does in a Windows, and print a report to send us. Sets "
    "its clock by 20 ms, and back.",
)
@show_config_option
@json_option
@click.pass_context
def command(
    ctx: click.Context,
    /,
    prove: str | None,
    config_file: Path | None,
    uri: str | None,
    guests: tuple[str, ...],
    show_config: bool,
    as_json: bool,
) -> None:
    """Look at this host and its guests; say what is wrong and how to fix it.

    Of each guest: whether the login works, what may set its clock and by which interpreter, its
    time daemon, the round trip against its tolerance, and whether its QEMU can be replaced. No
    configuration is needed. Nothing is changed.

    Exit code 0 if a maintenance could be tried, 3 if not.
    """
    loaded = load_config(config_file, {"uri": uri})
    config = loaded.config
    if show_config:
        print_config(loaded, as_json)
        return
    if prove is not None:
        ctx.exit(_prove(config, guests, silent=as_json))
    findings, code = tell_findings(config, state_dir(), guests, silent=as_json)
    if as_json:
        print_json({"findings": findings})
    ctx.exit(code)


def _prove(config: Config, guests: tuple[str, ...], *, silent: bool) -> int:
    """Print the report of one guest; returns the exit code. Raises UsageError, HarnessError."""
    from harness.cli.prove_windows import header, prove_guest

    if len(guests) != 1:
        raise UsageError(
            f"--prove takes one guest, not {len(guests)}",
            hint="harness doctor --prove windows GUEST",
        )
    if not silent:
        say(header())
    proofs = []
    for proof in prove_guest(config, guests[0]):
        proofs.append(proof)
        if not silent:
            said = f"{proof.outcome.upper():5} {proof.name}: {proof.detail}"
            out().print(Text(printable(said)), soft_wrap=True)
    if silent:
        print_json({"header": header(), "proofs": [vars(one) for one in proofs]})
    return EXIT_CODES[Outcome.worst(one.outcome for one in proofs)]


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
    # Version 0.1 called the fix ``mend``.
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
