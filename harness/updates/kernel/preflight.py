"""Everything that keeps this host's kernel from being replaced, looked up and refused at plan time.

All reasons at once, each with its fix, so that a person comes once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from harness.core.errors import PlanError
from harness.host import ram_folder
from harness.host.lifecycle import ENDED
from harness.host.luo import facts as luo_facts
from harness.host.parking import QemuLook
from harness.host.protocol import GuestInfo
from harness.host.region import facts, rehearsal
from harness.host.region.enrolment import Enrolled
from harness.host.region.lacks import Lack
from harness.updates.kernel import candidate
from harness.updates.kernel.belongings import lacks_of_guest
from harness.updates.kernel.refusals import (
    beyond_vhost,
    luo_refusals,
    others,
    refusals,
    without_room,
)
from harness.updates.qemu.eligibility import obstacles

_LOADED_MODULES, _CMDLINE = Path("/proc/modules"), Path("/proc/cmdline")


def require_kernel(
    release: str, kernel: Path, initrd: Path, command_line: str, silent_s: float
) -> Enrolled:
    """Return what is set aside on this host, if that kernel can take over from its own.

    ``silent_s``: for how long no systemd may run.
    Raises PlanError naming every reason why it cannot.
    """
    host = facts.look()
    new = candidate.look(release, kernel, initrd, command_line)
    found = refusals(host, new, _loaded(), silent_s)
    _refuse("this host's kernel cannot be replaced", map(str, found))
    if host.enrolled is None:  # which was refused
        raise PlanError("no memory of this host is set aside")
    return host.enrolled


def require_live_update(
    release: str, kernel: Path, initrd: Path, command_line: str, silent_s: float
) -> None:
    """Raise PlanError naming every reason why that kernel cannot be handed RAM by live update.

    ``silent_s``: for how long no systemd may run.
    """
    rehearsal.conclude(_CMDLINE.read_text())  # no unit of a region's has noted it
    host, new = facts.look(), candidate.look(release, kernel, initrd, command_line)
    found = luo_refusals(host, luo_facts.look(kernel), new, _loaded(), silent_s)
    _refuse("this host's kernel cannot be replaced", map(str, found))


def require_guests(
    looks: Sequence[QemuLook],
    on_host: Sequence[GuestInfo],
    folder: Path,
    release: str,
    lacks: Callable[[QemuLook, Path], tuple[Lack, ...]] = lacks_of_guest,
    states: Path | None = None,
) -> None:
    """Raise PlanError unless these guests are all that run, and each can be handed over.

    Args:
        looks: one at each guest of the run.
        on_host: every guest of this host.
        folder: libvirt's memory backing folder.
        release: of the next kernel.
        lacks: what keeps a guest that another QEMU could have from another kernel.
        states: where the guests' states are to be; None: in the folder.
    """
    in_run = {look.uuid for look in looks}
    running = {one.uuid: one.name for one in on_host if one.state.state not in ENDED}
    found = [
        f"{look.name}: {one}"
        for look in looks
        for one in (
            *obstacles(look, nameless=states is not None),
            *lacks(look, folder),
            *beyond_vhost(look.vhost, release),
        )
    ]
    found += map(str, others(running, in_run))
    free = ram_folder.free_bytes(states or folder)
    found += map(str, without_room(free, [one.name for one in looks], str(states or "the region")))
    _refuse("guests cannot be handed over to another kernel", found)


def _loaded() -> set[str]:
    table = _LOADED_MODULES.read_text() if _LOADED_MODULES.exists() else ""  # one without modules
    return {line.split(" ", 1)[0] for line in table.splitlines()}


def _refuse(what: str, found: Iterable[str]) -> None:
    reasons = list(found)
    if reasons:
        raise PlanError(
            f"{what}: {'; '.join(reasons)}", hint="harness doctor; docs/how-to/kernel.md"
        )
