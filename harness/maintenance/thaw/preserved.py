"""RAM that the kernel before has preserved: taken over, and held until a QEMU has it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from itertools import groupby
from operator import attrgetter
from pathlib import Path

from harness.core.errors import HarnessError, InfrastructureError
from harness.core.files import public_folder
from harness.host import ram_links
from harness.host.kernel import early
from harness.host.luo import held_ram
from harness.host.luo.sessions import Session
from harness.updates.kernel.plan import Preserved, ThawPlan


def mount_folder(plan: ThawPlan) -> None:
    """Have libvirt's memory backing folder be in memory, as it was. Raises InfrastructureError.

    Before systemd it is not mounted; there will be nothing but links in it.
    """
    folder = public_folder(Path(plan.ram_folder))
    if not folder.is_mount():
        early.mount("tmpfs", folder, "tmpfs", plan.ram_options)


def take_over(plan: ThawPlan) -> tuple[str, Mapping[str, Mapping[str, str]]]:
    """Take over what was preserved: by UUID and name what each RAM file is now.

    Returns as well why nothing of it may be used; empty if all of it can. What was preserved can be
    taken once, and only by a kernel that was handed it.
    """
    try:
        session = Session.retrieve(plan.session)
        if session is None:
            return (
                f"this kernel was not handed the session {plan.session}: what was preserved is lost"
            ), {}
        with session:
            found = {
                uuid: _hold(plan, uuid, list(files), session)
                for uuid, files in groupby(plan.preserved, attrgetter("uuid"))
            }
            session.finish()
    except HarnessError as error:
        return f"the RAM of guests cannot be taken over: {error.message}", {}
    return "", found


def _hold(plan: ThawPlan, uuid: str, files: list[Preserved], session: Session) -> Mapping[str, str]:
    """Have a keeper hold a guest's RAM, and links to it lie where it is kept."""
    (keep,) = [Path(one.keep) for one in plan.guests if one.uuid == uuid]
    opened: dict[str, int] = {}
    try:
        ram = {}
        for one in files:
            opened[one.name] = session.file(one.token)
            about = os.fstat(opened[one.name])
            if about.st_size != one.size:
                raise InfrastructureError(
                    f"{one.name} of {uuid} has {about.st_size} bytes, not {one.size}"
                )
            held_ram.own(opened[one.name], one.user, one.group)
            ram[one.name] = ram_links.identity(about)
        keeper = held_ram.Keeper(opened, files[0].user, files[0].group)
    finally:
        for file in opened.values():
            os.close(file)
    with suppress(OSError):
        early.give_a_group(uuid, keeper.pid)
    ram_links.make_keep(keep)
    ram_links.lay_held(keep, keeper.held, ram)
    return ram
