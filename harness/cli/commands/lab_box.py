"""``harness lab box``: a KVM host of our own, to rehearse on and to break."""

from __future__ import annotations

import os
from typing import Any

import click

from harness.cli.commands.common import duration_option, json_option, print_json, say
from harness.core.timebase import Deadline
from harness.results.report.words import printable

_SYNC_S = 120.0


_EXAMPLES = """\b
Examples:
  harness lab box up                        a KVM host, emulated where there is no KVM
  harness lab box ssh harness lab try -n 2  a whole maintenance of two KVM guests in it
  harness lab box cut                       its power fails: what do guests and records say?
  harness lab box down
"""


@click.group("box", epilog=_EXAMPLES)
def command() -> None:
    """A KVM host in a virtual machine, to rehearse on; reached over SSH, without a network."""


@command.command(epilog="Example: harness lab box up && harness lab box ssh harness lab try -n 2")
@click.option(
    "--cpus",
    type=click.IntRange(1, 64),
    help="Default: 2, or 1 where it is emulated: there more of them make it die now and then.",
)
@click.option("--memory-mib", default=3072, show_default=True, type=click.IntRange(1024))
@click.option(
    "--accelerator",
    type=click.Choice(["auto", "kvm", "tcg"]),
    default="auto",
    show_default=True,
    help="auto: KVM where this machine has it, else emulated.",
)
@duration_option(
    "--timeout",
    "timeout_s",
    "Longest time until it is ready, the image not included.",
    default="900s",
    show_default=True,
)
@json_option
def up(
    cpus: int | None, memory_mib: int, accelerator: str, timeout_s: float, as_json: bool
) -> None:
    """Boot the box, bring this checkout into it, start its libvirtd."""
    from harness.lab.box import machine as boxes
    from harness.lab.box import state
    from harness.lab.images import ensure

    if state.load() is None:
        ensure(boxes.IMAGE, say)
    boxes.up(
        boxes.Size(cpus, memory_mib),
        deadline=Deadline.after(timeout_s),
        progress=say,
        accelerator=accelerator,
    )
    _show(as_json)
    say("next: harness lab box ssh harness lab try -n 2; in the end: harness lab box down")


@command.command()
@json_option
@click.pass_context
def status(ctx: click.Context, as_json: bool) -> None:
    """Show the box: is it up, and how does one get in?"""
    if not _show(as_json):
        ctx.exit(3)


def _show(as_json: bool) -> bool:
    from harness.lab.box import qemu, state

    box = state.load()
    found: dict[str, Any] = {"state": "none"}
    if box is not None:
        found = {
            "state": "up" if qemu.lives(box) else "without power",
            "accelerator": box.accelerator,
            "address": state.HOST,
            "port": box.port,
            "user": state.USER,
            "identity_file": str(state.identity_file()),
            "known_hosts": str(state.known_hosts()),
        }
    if as_json:
        print_json(found)
    elif box is None:
        say("there is no box (hint: harness lab box up)")
    else:
        for key, value in found.items():
            click.echo(f"{key:14} {printable(str(value))}")
    return bool(found["state"] == "up")


@command.command(
    context_settings={"ignore_unknown_options": True},
    epilog="Example: harness lab box ssh harness doctor",
)
@click.argument("remote_command", nargs=-1, type=click.UNPROCESSED, metavar="[COMMAND]...")
def ssh(remote_command: tuple[str, ...]) -> None:
    """Log in to the box with its own key, host key checked."""
    from harness.lab.box import machine as boxes
    from harness.lab.box import ssh as way_in

    words = way_in.command(boxes.running(), remote_command)
    os.execvp(words[0], words)


@command.command()
def sync() -> None:
    """Bring this checkout, as it is now, into the box that is up."""
    from harness.lab.box import machine as boxes

    boxes.bring_checkout(boxes.running(), Deadline.after(_SYNC_S))


@command.command()
def cut() -> None:
    """Cut the box's power, as pulling the plug does.

    Nothing is written, nothing shut down; up boots the same disk again.
    """
    from harness.lab.box import machine as boxes

    boxes.cut(say)


@command.command()
def down() -> None:
    """Remove every trace of the box. Safe to repeat."""
    from harness.lab.box import machine as boxes

    boxes.down(say)
