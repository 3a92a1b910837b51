"""``harness init``: a first ``harness.toml`` for the guests that are there."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from harness import api
from harness.cli.commands.common import json_option, print_json, say, uri_option
from harness.cli.commands.doctor import tell_findings
from harness.cli.commands.guest_arguments import guest_arguments
from harness.cli.commands.trust import asker, tell
from harness.core.errors import InfrastructureError, UsageError
from harness.core.paths import state_dir
from harness.results.report.spoken import printable

if TYPE_CHECKING:
    from harness.core.settings import Config
    from harness.maintenance.find_login import FoundLogin

_NEXT = {True: "plan", False: "doctor"}


@click.command(
    epilog="""\b
Examples:
  harness init                    harness.toml here, for every guest that runs
  harness init web1 web2 --user admin
  harness init --yes              trust unknown host keys unasked: images that you made yourself
"""
)
@guest_arguments
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    default=Path("harness.toml"),
    show_default=True,
    help="The file to write; one that is there is never overwritten.",
)
@click.option("--user", "users", multiple=True, help="Try to log in as this user first.")
@click.option("--yes", is_flag=True, help="Trust unknown host keys without asking.")
@uri_option
@json_option
@click.pass_context
def command(
    ctx: click.Context,
    /,
    uri: str | None,
    guests: tuple[str, ...],
    output: Path,
    users: tuple[str, ...],
    yes: bool,
    as_json: bool,
) -> None:
    """Look at libvirt's running guests and write a commented harness.toml for them.

    Unknown host keys are shown, and trusted if you confirm; a login is looked for that may set the
    guest's clock; update domains and availability sets come from the guests' metadata. In the end
    doctor looks at all of it, and its exit code is this command's. Guests are not changed.
    """
    _expect_new(output)
    config = _bare_config(uri)
    backend = api.Backend.real()
    decisions = _trusted(config, guests, backend, yes=yes, as_json=as_json)
    if not as_json:
        say("looking for logins…")
    found = api.find_logins(config, guests, users=users, backend=backend)
    if not found:
        raise UsageError(
            f"no guest runs on {config.uri}", hint="start one; harness lab up makes some"
        )
    _write(output, config.uri, found)
    if not as_json:
        _tell(output, found)
    written = api.load_config(output, {"uri": uri}).config
    findings, code = tell_findings(written, state_dir(), (), silent=as_json)
    if as_json:
        print_json({"file": str(output), "trust": decisions, "guests": list(map(_data, found)),
                    "findings": findings})  # fmt: skip
    else:
        click.echo(
            "next: harness plan" if code == 0 else "next: fix the above, then harness doctor"
        )
    ctx.exit(code)


def _expect_new(output: Path) -> None:
    """Before anything else is done. Raises UsageError."""
    if os.path.lexists(output):
        raise UsageError(
            f"{output} is there already and is not overwritten",
            hint="-o OTHER.toml writes another file; harness doctor looks at this one's guests",
        )


def _bare_config(uri: str | None) -> Config:
    """What holds without a file: that of a lab, or of another folder, is no start."""
    from harness.core.config import load
    from harness.updates.registry import FULL_CONFIG

    flags = {} if uri is None else {"uri": uri}
    return load(None, environment=os.environ, flags=flags, model=FULL_CONFIG).config


def _trusted(
    config: Config, guests: tuple[str, ...], backend: api.Backend, *, yes: bool, as_json: bool
) -> list[dict[str, object]]:
    from harness.cli.trusting import decide

    told = []
    for decision in decide(config, guests, asker(yes=yes, silent=as_json), backend):
        told.append(decision.as_data())
        if not as_json:
            tell(decision)
    return told


def _write(output: Path, uri: str, found: tuple[FoundLogin, ...]) -> None:
    from harness.cli.first_config import first_config

    try:
        with output.open("x", encoding="utf-8") as file:  # not over one made meanwhile
            file.write(first_config(uri, found))
    except FileExistsError:
        _expect_new(output)
    except OSError as error:
        raise InfrastructureError(f"cannot write {output}: {error.strerror}") from error


def _tell(output: Path, found: tuple[FoundLogin, ...]) -> None:
    for one in found:
        if one.error is not None:
            say(f"{one.info.name}: no login was found: {one.error.message}")
    click.echo(printable(f"{output} is written for {len(found)} guest{'s'[: len(found) > 1]}"))


def _data(one: FoundLogin) -> dict[str, object]:
    return {
        "name": one.info.name,
        "address": one.address,
        "address_from": one.address_from or None,
        "user": one.user,
        "sudo": one.sudo,
        "access": one.access,
        "may_set_clock": one.may_set_clock,
        "update_domain": one.info.update_domain,
        "availability_set": one.info.availability_set,
        "problem": str(one.error) if one.error else None,
    }
