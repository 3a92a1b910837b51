"""``harness trust``: guests' host keys, shown and added to known_hosts."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from harness import api
from harness.cli.commands import completion
from harness.cli.commands.common import (
    connection_options,
    json_option,
    load_config,
    print_json,
    say,
)
from harness.results.report.spoken import printable

if TYPE_CHECKING:
    from harness.cli.trusting import Decision
    from harness.maintenance.host_keys import GuestKeys

_COMPARE = (
    "compare on the guest's console: for f in /etc/ssh/ssh_host_*.pub; do ssh-keygen -lf $f; done"
)


@click.command(
    epilog="""\b
Examples:
  harness trust web1 web2         show their host keys; ask before each is added
  harness trust                   every guest of harness.toml, else every running guest
  harness trust --yes web1        add them unasked: for an image that you made yourself
  harness trust --json            show them as JSON; adds none without --yes
"""
)
@click.argument("guests", nargs=-1, metavar="[GUEST]...", shell_complete=completion.guests)
@click.option("--yes", is_flag=True, help="Add unknown keys without asking; never a changed one.")
@connection_options
@json_option
@click.pass_context
def command(
    ctx: click.Context,
    /,
    config_file: Path | None,
    uri: str | None,
    guests: tuple[str, ...],
    yes: bool,
    as_json: bool,
) -> None:
    """Show guests' SSH host keys, and add those that you confirm to known_hosts.

    There is no login: guests show their keys before one. A key that differs from the one
    that is known is refused, with or without --yes. A jump host on the way is shown first.

    Exit code 0 if every guest's key is known now, 3 if not.
    """
    from harness.cli.trusting import decide

    config = load_config(config_file, {"uri": uri}).config
    agree = asker(yes=yes, silent=as_json)
    decisions = []
    for decision in decide(config, guests, agree, api.Backend.real()):
        decisions.append(decision)
        if not as_json:
            tell(decision)
    if as_json:
        print_json({"guests": [decision.as_data() for decision in decisions]})
    elif not decisions:
        say(f"no guest runs on {config.uri}")
    ctx.exit(0 if decisions and all(one.is_known for one in decisions) else 3)


def asker(*, yes: bool, silent: bool = False) -> Callable[[GuestKeys], bool]:
    """Return what shows a guest's unknown keys and asks a person about them.

    ``silent``: nothing is shown, and only ``yes`` agrees.
    """

    def agree(keys: GuestKeys) -> bool:
        if not silent:
            _show(keys)
        if yes or silent:
            return yes
        if not sys.stdin.isatty():
            say("not added: there is no terminal to ask on; --yes is for images you made yourself")
            return False
        return click.confirm("trust these keys?", default=False, err=True)

    return agree


def _show(keys: GuestKeys) -> None:
    shown = keys.shown
    if shown is None:
        return
    where = f"{shown.address}" + (f" port {shown.port}" if shown.port != 22 else "")
    origin = f" ({keys.address_from})" if keys.address_from else ""
    whose = f"jump host {shown.jump_host}, on the way to" if shown.jump_host else "guest"
    click.echo(printable(f"{whose} {keys.info.name} at {where}{origin}: its host key is unknown"))
    for key in shown.keys:
        click.echo(printable(f"  {key.kind:<20}  {key.fingerprint}"))
    click.echo(_COMPARE)


def tell(decision: Decision) -> None:
    """Print what became of one guest's keys: on stdout, an error on stderr."""
    from harness.cli.trusting import Trust

    keys = decision.keys
    shown, name = keys.shown, keys.info.name
    if shown is not None and shown.jump_host:
        name = f"jump host {shown.jump_host}"
    if decision.trust is Trust.KNOWN and shown is not None:
        click.echo(printable(f"{name}: known ({shown.keys[0].fingerprint})"))
    elif decision.trust is Trust.ADDED and shown is not None:
        click.echo(printable(f"{name}: added to {shown.file} as {shown.name}"))
    elif decision.error is not None:
        say(str(decision.error))
    else:
        click.echo(printable(f"{name}: not trusted"))
