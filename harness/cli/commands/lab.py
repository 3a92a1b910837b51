"""``harness lab``: real guests to try it on."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.table import Table
from rich.text import Text

from harness.cli.commands import lab_box
from harness.cli.commands.common import (
    duration_option,
    json_option,
    load_config,
    out,
    print_json,
    say,
)
from harness.cli.commands.completion import quietly
from harness.core.errors import HarnessError, UsageError
from harness.core.extras import require
from harness.core.timebase import SYSTEM_CLOCK, Deadline
from harness.results.report.words import printable

if TYPE_CHECKING:
    from harness.lab.images import Image


@click.group()
def command() -> None:
    """Real guests to try it on; other guests of this host are never touched."""
    require("lab", "harness lab")


command.add_command(lab_box.command)

_count = click.option("-n", "--guests", "count", default=3, show_default=True, help="How many.")
_image = click.option(
    "--image",
    default="debian",
    show_default=True,
    help="debian, tiny, or a cloud image: a qcow2 file or a URL (with --sha256).",
)
_sha256 = click.option("--sha256", help="Digest the cloud image must have; needed for a URL.")
_accelerator = click.option(
    "--accelerator", type=click.Choice(["auto", "kvm", "tcg"]), default="auto", show_default=True
)
_resident = click.option(
    "--resident",
    is_flag=True,
    help="RAM as files in memory: guests whose QEMU can be replaced (kind qemu).",
)
_timeout = duration_option(
    "--timeout",
    "timeout_s",
    "Longest time until all guests answer, once their image is there.",
    default="240s",
    show_default=True,
)


@command.command(epilog="Example: harness lab up -n 3 --image debian")
@_count
@_image
@_sha256
@_accelerator
@_resident
@_timeout
@json_option
def up(
    count: int,
    image: str,
    sha256: str | None,
    accelerator: str,
    resident: bool,
    timeout_s: float,
    as_json: bool,
) -> None:
    """Boot guests and wait until each answers SSH."""
    _bring_up(count, image, sha256, accelerator, timeout_s, resident=resident)
    _show_status(as_json)
    say("next: harness run, or harness lab ssh lab-1; in the end: harness lab down")


def _bring_up(
    count: int,
    image: str,
    sha256: str | None,
    accelerator: str,
    timeout_s: float,
    *,
    resident: bool,
) -> None:
    from harness.lab import guests
    from harness.lab.specs import default_specs

    ready = _image_of(image, sha256)
    guests.up(
        default_specs(count, image, resident=resident),
        deadline=Deadline.after(timeout_s),  # a slow mirror is no guest that does not answer
        progress=say,
        accelerator=accelerator,
        images={image: ready},
    )


def _image_of(image: str, sha256: str | None) -> Image:
    """Return the image of that name, built if it was not, or a cloud image, downloaded."""
    from harness.lab.cloud import fetch
    from harness.lab.images import ensure, recipes

    if image in recipes():
        if sha256 is not None:
            raise UsageError(f"--sha256 is for cloud images; {image} is built here")
        return ensure(image, say)
    return fetch(image, sha256, say)


@command.command()
@json_option
@click.pass_context
def status(ctx: click.Context, as_json: bool) -> None:
    """Show the lab's guests and their states."""
    if not _show_status(as_json):
        ctx.exit(3)


def _show_status(as_json: bool) -> bool:
    from harness.lab import guests

    found = guests.status()
    if as_json:
        print_json(found or {"guests": []})
        return found is not None
    if found is None:
        say("no lab is up (hint: harness lab up)")
        return False
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("guest", "address", "state", "image", "update domain"):
        table.add_column(column)
    for guest in found["guests"]:
        keys = ("name", "address", "state", "image", "update_domain")
        table.add_row(*(Text(printable(guest[key])) for key in keys))
    out().print(table)
    return True


def _names(ctx: click.Context) -> list[tuple[str, str]]:
    from harness.lab import state

    lab = state.load()
    return [(guest.name, guest.address) for guest in lab.guests] if lab else []


@command.command(
    context_settings={"ignore_unknown_options": True},
    epilog="Example: harness lab ssh lab-1 uptime",
)
@click.argument("guest", shell_complete=quietly(_names))
@click.argument("remote_command", nargs=-1, type=click.UNPROCESSED, metavar="[COMMAND]...")
def ssh(guest: str, remote_command: tuple[str, ...]) -> None:
    """Log in to a lab guest with its own key, host key checked."""
    from harness.lab import state

    lab = state.load()
    found = next((g for g in lab.guests if g.name == guest), None) if lab else None
    if lab is None or found is None:
        raise UsageError("no such lab guest", guest=guest, hint="harness lab status")
    options = {
        "UserKnownHostsFile": str(lab.known_hosts),
        "GlobalKnownHostsFile": "/dev/null",
        "StrictHostKeyChecking": "yes",
        "IdentitiesOnly": "yes",
    }
    words = [word for key, value in options.items() for word in ("-o", f"{key}={value}")]
    target = f"{state.USER}@{found.address}"
    os.execvp("ssh", ["ssh", "-i", str(lab.identity_file), *words, target, *remote_command])


@command.command()
def down() -> None:
    """Remove every trace of the guests. Safe to repeat."""
    from harness.lab import guests, state

    lab = state.load()
    if lab is None:
        say("no lab is up")
    else:
        _say_who_holds(lab.uri)
    guests.down(say)


def _say_who_holds(uri: str) -> None:
    """A run that goes on, or a ``hold``, is about to lose its guests: warn, and name the run."""
    from harness.host.lock import holder

    with suppress(HarnessError):  # nothing keeps a lab from being removed
        if (found := holder(uri)) is not None:
            who = found.describe(SYSTEM_CLOCK.realtime_ns())
            say(f"warning: the lab is removed while it is in use: {printable(who)}")


@command.command(epilog="Example: harness lab build tiny debian")
@click.argument("images", nargs=-1, required=True)
def build(images: tuple[str, ...]) -> None:
    """Build guest images now, if their recipes have not been built before."""
    from harness.lab.images import ensure

    for image in images:
        ensure(image, say)


@command.command("try")
@_count
@_image
@_sha256
@_accelerator
@_resident
@_timeout
@json_option
@click.pass_context
def try_(ctx: click.Context, /, as_json: bool, **options: Any) -> None:
    """Boot a lab, run a whole maintenance on it, take it down."""
    from harness.cli.commands.run import maintain
    from harness.lab import guests, state

    _bring_up(**options)
    try:
        config_file: Path | None = state.lab_config_file()
        code = maintain(load_config(config_file, {}), (), as_json=as_json)
    except BaseException:
        with suppress(HarnessError):  # the first error is the one to tell
            guests.down(say)
        raise
    guests.down(say)
    ctx.exit(code)
