"""``harness setup-host``: what this host needs for guests whose QEMU can be replaced."""

from __future__ import annotations

import shlex
import sys
from typing import TYPE_CHECKING

import click

from harness.cli.commands.common import json_option, out, print_json

if TYPE_CHECKING:
    from harness.host.region.enrolment import Enrolment
    from harness.host.setup_steps import Setup


@click.command(
    epilog="""\b
Examples:
  harness setup-host --resident 16G --dry-run   print what would be changed, and stop
  harness setup-host --resident 16G             RAM of guests in memory, 16 GiB in all
  harness setup-host --resident 16G --region    16 GiB of memory that outlives the host's kernel
  harness setup-host --rehearse-kexec           does this machine survive a kexec? No guest runs.
  harness setup-host --undo                     take it all away again
"""
)
@click.option(
    "--resident",
    "size",
    metavar="SIZE",
    help="Have libvirt's memory backing folder in memory, so large at most: 16G, 50%.",
)
@click.option(
    "--region",
    is_flag=True,
    help="That memory is set aside at boot, so that it outlives the host's kernel: 16G. A reboot.",
)
@click.option(
    "--rehearse-kexec",
    is_flag=True,
    help="Have this host's kernel start itself (kexec), with no guest; all ends as in a crash.",
)
@click.option("--undo", is_flag=True, help="Take away what this command has set up.")
@click.option("--dry-run", is_flag=True, help="Print what would be changed; change nothing.")
@json_option
def command(
    size: str | None,
    region: bool,
    rehearse_kexec: bool,
    undo: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Set this host up for guests whose QEMU, or whose host's kernel, can be replaced.

    A systemd mount unit puts libvirt's memory backing folder into memory, and AppArmor's profiles
    of libvirt get what harness needs, in their files for local additions. Nothing is restarted,
    nothing that is set up already is changed, and every change is printed.

    With --region the memory is set aside by the boot loader's line for the kernel (memmap=), is no
    memory of the host's from the next reboot on, and a file system for guests' RAM is made on it at
    each boot.
    """
    import os

    from harness.core.errors import MissingCapability, UsageError
    from harness.host.region.enrolment import Enrolment

    if (size is not None) + undo + rehearse_kexec != 1:
        raise UsageError(
            "one of --resident SIZE, --rehearse-kexec and --undo is needed",
            hint="--help has examples",
        )
    if region and size is None:
        raise UsageError("--region goes with --resident SIZE; --undo takes the region away, too")
    if os.geteuid() != 0 and not dry_run:
        raise MissingCapability("root", "setting up a host needs root", hint="run it as root")
    here = Enrolment.this()
    if rehearse_kexec:
        _rehearse(here, dry_run, as_json)
        return
    of_region = here if region else here.host
    setup = here.undo() if size is None else of_region.set_up(size)
    if as_json:
        print_json(
            {
                "dry_run": dry_run,
                "files": [{"path": str(one.path), "content": one.content} for one in setup.files],
                "commands": [list(words) for words in (*setup.before, *setup.after)],
                "remarks": list(setup.remarks),
            }
        )
    else:
        _tell(setup, dry_run)
    if not dry_run:
        setup.make()


def _rehearse(here: Enrolment, dry_run: bool, as_json: bool) -> None:
    """Say what is started, and start it: this process ends with its kernel."""
    from harness.host.region.facts import look
    from harness.host.region.rehearse import leave, prepared

    facts = look(here)
    start = prepared(facts)
    if as_json:
        told = {"kernel": str(start.kernel), "initrd": str(start.initrd)}
        print_json({"dry_run": dry_run, **told, "command_line": start.command_line})
    else:
        would = "would start" if dry_run else "start"
        for line in (
            f"{would} {start.kernel} with {start.initrd} and: {start.command_line}",
            "every process of this host ends at once, disks are synced, as when its kernel is "
            "replaced; harness doctor tells afterwards whether it has come up",
        ):
            out().print(line, markup=False, soft_wrap=True)
    sys.stdout.flush()
    if not dry_run:
        leave(start, facts)


def _tell(setup: Setup, dry_run: bool) -> None:
    console = out()
    would = "would " if dry_run else ""
    if setup.nothing:
        console.print("nothing is to be changed", markup=False)
    lines = [f"{would}run: {shlex.join(words)}" for words in setup.before]
    for one in setup.files:
        does = "remove" if one.content is None else "write" if one.shown else "take our rules from"
        lines += [f"{would}{does} {one.path}", *(f"    {x}" for x in one.shown.splitlines())]
    lines += [f"{would}run: {shlex.join(words)}" for words in setup.after]
    lines += setup.remarks
    for line in lines:
        console.print(line, markup=False, soft_wrap=True)
