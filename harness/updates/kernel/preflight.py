"""Everything that keeps this host's kernel from being replaced, looked up and refused at plan time.

All reasons at once, each with its fix, so that a person comes once.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from harness.core.errors import PlanError
from harness.host import ram_folder
from harness.host.lifecycle import ENDED
from harness.host.parking import QemuLook
from harness.host.protocol import GuestInfo
from harness.host.region import facts
from harness.host.region.enrolment import Enrolled
from harness.host.region.lacks import Lack
from harness.updates.kernel import candidate
from harness.updates.kernel.belongings import lacks_of_guest
from harness.updates.kernel.refusals import others, refusals, without_room
from harness.updates.qemu.eligibility import obstacles

_LOADED_MODULES = Path("/proc/modules")


def require_kernel(release: str, kernel: Path, initrd: Path, command_line: str) -> Enrolled:
    """Return what is set aside on this host, if that kernel can take over from its own.

    Raises PlanError naming every reason why it cannot.
    """
    host = facts.look()
    new = candidate.look(release, kernel, initrd, command_line)
    table = _LOADED_MODULES.read_text() if _LOADED_MODULES.exists() else ""  # one without modules
    loaded = {line.split(" ", 1)[0] for line in table.splitlines()}
    _refuse("this host's kernel cannot be replaced", map(str, refusals(host, new, loaded)))
    if host.enrolled is None:  # which was refused
        raise PlanError("no memory of this host is set aside")
    return host.enrolled


def require_guests(looks: Sequence[QemuLook], on_host: Sequence[GuestInfo], folder: Path) -> None:
    """Raise PlanError unless these guests are all that run, and each can be handed over.

    Args:
        looks: one at each guest of the run.
        on_host: every guest of this host.
        folder: where the region is mounted.
    """
    in_run = {look.uuid for look in looks}
    running = {one.uuid: one.name for one in on_host if one.state.state not in ENDED}
    found = [f"{look.name}: {one}" for look in looks for one in _of_guest(look, folder)]
    found += map(str, others(running, in_run))
    found += map(str, without_room(ram_folder.free_bytes(folder), [one.name for one in looks]))
    _refuse("guests cannot be handed over to another kernel", found)


def _of_guest(look: QemuLook, folder: Path) -> Iterable[object]:
    """Return what keeps it from another QEMU, and from another kernel besides."""
    mine: tuple[Lack, ...] = lacks_of_guest(look, folder)
    return (*obstacles(look), *mine)


def _refuse(what: str, found: Iterable[str]) -> None:
    reasons = list(found)
    if reasons:
        raise PlanError(
            f"{what}: {'; '.join(reasons)}", hint="harness doctor; docs/how-to/kernel.md"
        )
