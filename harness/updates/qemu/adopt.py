"""Kind ``adopt``: make running guests eligible for a replacement of their QEMU, without a boot.

A guest whose RAM is private memory of its QEMU is saved and restored once, in the same QEMU, with
its RAM in libvirt's memory backing folder from then on: it is copied this once, and never again.
The way back is the same as that of kind ``qemu``. See docs/how-to/qemu.md.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from xml.etree import ElementTree

from harness.core.errors import ConfigError, HarnessError, NotNeeded, PlanError, UpdateFailed
from harness.core.settings import Scope
from harness.core.timebase import Deadline
from harness.host import ram_folder, ram_links, start_commands
from harness.host.copy_rate import copy_rate
from harness.host.mounts import DAX, IN_MEMORY, file_system
from harness.host.parking import NEW, OLD, Parking, QemuLook
from harness.host.protocol import GuestInfo, Hypervisor
from harness.updates.protocol import (
    THIS_HOST,
    Applied,
    Needs,
    Site,
    SwapPlan,
    UpdateContext,
)
from harness.updates.qemu import programs
from harness.updates.qemu.eligibility import obstacles
from harness.updates.qemu.programs import Program
from harness.updates.qemu.room import Extent, expected_s, largest, mib, room, start_s
from harness.updates.qemu.settings import AdoptSettings
from harness.updates.qemu.successor import keepable, shared
from harness.updates.qemu.swapping import FILES, Patience, introduce, swap_all, trees_of
from harness.updates.requirements import require_this_host

_MIB = 1 << 20
#: A start that takes so many times longer than expected hangs.
_PATIENCE = 3.0
_RESERVE_S = 2.0


@dataclass(frozen=True)
class Adoption:
    """What is to happen to one guest."""

    look: QemuLook
    program: Program
    extent: Extent


class AdoptUpdate:
    """Copies the RAM of the guests of an update domain to where it can be kept."""

    kind = "adopt"
    command: tuple[str, ...] = ()

    def __init__(self, settings: AdoptSettings, site: Site = THIS_HOST) -> None:
        if settings.scope is Scope.HOST:
            raise ConfigError(
                "guests are adopted one by one, so the scope of kind adopt is guest",
                key="update.scope",
            )
        self._settings = settings
        self._site = site
        self.scope = Scope.GUEST
        self.preserves_memory = settings.preserves_memory
        self.expected_s = settings.expected_s or _RESERVE_S
        self.expected_from = "update.expected_s"
        self._rate = (settings.rate_mib_s or 0.0) * _MIB
        self._folder = Path()
        self._plan: dict[str, Adoption] = {}
        self._parkings: dict[str, Parking] = {}
        self._texts: dict[str, dict[str, str]] = {}
        self._hypervisor: Hypervisor | None = None
        self._abandoned = threading.Event()
        self._remarks: list[str] = []

    @property
    def warnings(self) -> tuple[str, ...]:
        """How long each guest is paused, and what room it takes; complete after ``examine``."""
        return tuple(self._remarks)

    def needs(self, guests: int) -> Needs:
        """See :class:`harness.updates.protocol.GuestUpdate`: the largest ones are meant."""
        extents = largest([one.extent for one in self._plan.values()], guests)
        expected = self._settings.expected_s or expected_s(extents, self._rate)
        return Needs(expected, _RESERVE_S + start_s(extents, self._rate))

    def check(self) -> None:
        """Raise UsageError or MissingCapability where this host cannot be changed from here."""
        require_this_host(self.kind, self._site)
        previous = self._settings.previous
        if previous is not None and not previous.exists():
            raise ConfigError(f"{previous} does not exist", key="update.previous")
        self._folder = folder = ram_folder.backing_folder()
        if (found := file_system(folder)) not in IN_MEMORY:
            raise PlanError(
                f"RAM would come to lie in {folder}, which is "
                + (f"on {found}, not in memory" if found else "not there"),
                hint="harness setup-host --resident SIZE; or /etc/fstab: "
                f"{ram_folder.fstab_line(folder)}, and mount {folder}",
            )

    def examine(
        self, guests: Sequence[GuestInfo], hypervisor: Hypervisor, deadline: Deadline
    ) -> None:
        """See :class:`harness.updates.protocol.GuestUpdate`."""
        self._hypervisor = hypervisor
        self._plan, self._remarks = {}, []
        refusals: list[str] = []
        needless = 0
        for guest in guests:
            try:
                self._plan[guest.name] = self._adoption(guest.uuid, deadline)
            except HarnessError as error:
                needless += isinstance(error, NotNeeded)
                hint = f" (fix: {error.hint})" if error.hint else ""
                refusals.append(f"{guest.name}: {error.message}{hint}")
        if refusals:
            refused = NotNeeded if needless == len(guests) else PlanError
            raise refused(
                f"{len(refusals)} of {len(guests)} guests cannot be adopted: "
                + "; ".join(refusals),
                hint="docs/how-to/qemu.md says which guests can be; leave the others out",
            )
        if not self._rate:
            self._rate = copy_rate()
        extents = [one.extent for one in self._plan.values()]
        self._refuse_without_room(extents, largest(extents), PlanError)
        if self._plan:
            self.expected_s = self.needs(1).expected_s
            source = "update.rate_mib_s" if self._settings.rate_mib_s else "measured now"
            if not self._settings.expected_s:
                self.expected_from = f"RAM copied at {mib(self._rate)}/s, {source}"
        self._remarks += [self._remark(name, one) for name, one in self._plan.items()]

    def prepare(self, context: UpdateContext, deadline: Deadline) -> None:
        """Look again, and write down how guests come back; refuse if there is no room now."""
        self._abandoned.clear()
        if self._hypervisor is None or context.swap is None:
            raise UpdateFailed("the guests were not examined")
        for name in context.guests:
            uuid = self._plan[name].look.uuid
            self._plan[name] = one = self._adoption(uuid, deadline)
            introduce(one.program, one.look, self._hypervisor, deadline)
        extents = [self._plan[name].extent for name in context.guests]
        self._refuse_without_room(extents, extents, UpdateFailed)
        copying_s, patience = _PATIENCE * start_s(extents, self._rate), Patience()
        for name in context.guests:
            look, program = self._plan[name].look, self._plan[name].program
            starting_s = patience.of(program, look, deadline)
            self._parkings[name] = replace(
                parking_for(look, self._folder, copying_s + starting_s),
                trees=trees_of(program),
            )
            now = _in(look.description, program.emulator)
            self._texts[name] = {NEW: shared(now), OLD: now}
        context.swap.prepare([self._swap_plan(name) for name in context.guests])

    def apply(self, context: UpdateContext, deadline: Deadline) -> Applied:
        """Adopt all at once. Raises UpdateFailed, which says of each that failed where it is."""
        swap_all(context, self._parkings, self._texts, self._abandoned, deadline, to_be="saved")
        copied = sum(self._plan[name].extent.memory for name in context.guests)
        return Applied(0, detail=f"{mib(copied)} of RAM are in {self._folder} now")

    def verify(self, context: UpdateContext, deadline: Deadline) -> None:
        """Each guest can be kept now, and from its next boot on. Raises UpdateFailed."""
        hypervisor = self._hypervisor
        if hypervisor is None:
            raise UpdateFailed("the guests were not examined")
        wrong = []
        for name in context.guests:
            uuid = self._plan[name].look.uuid
            found = obstacles(hypervisor.parking.look(uuid, deadline))
            wrong += [
                f"{name} is not eligible for a replacement of its QEMU: {one}" for one in found
            ]
            if not found and self._settings.definition:
                _define(uuid, hypervisor, deadline)
        if wrong:
            raise UpdateFailed("; ".join(wrong))

    def rollback(self, context: UpdateContext, deadline: Deadline) -> None:
        """Nothing is left to undo: a guest that was saved is back in memory of its own."""

    def abandon(self) -> None:
        """Save no further guest; the resume brings back those that are saved."""
        self._abandoned.set()

    def _adoption(self, uuid: str, deadline: Deadline) -> Adoption:
        """Raises HarnessError."""
        assert self._hypervisor is not None
        look = self._hypervisor.parking.look(uuid, deadline)
        found = obstacles(look)
        if others := [one for one in found if not one.adoptable]:
            raise PlanError("; ".join(map(str, others)))
        if not found:
            raise NotNeeded(
                "its QEMU can be replaced already", hint="nothing is to be done; leave it out"
            )
        domain = ElementTree.fromstring(look.description)
        own = Path(domain.findtext("devices/emulator", ""))
        program = programs.running(own, look.version, self._settings.previous, deadline)
        return Adoption(look, program, Extent(look.memory_bytes, look.used_bytes))

    def _refuse_without_room(
        self,
        extents: Sequence[Extent],
        copied_at_once: Sequence[Extent],
        error: type[PlanError] | type[UpdateFailed],
    ) -> None:
        needed = room(extents, copied_at_once)
        try:
            free, available = ram_folder.free_bytes(self._folder), ram_folder.available_bytes()
        except OSError as problem:
            raise error(f"{problem.filename}: {problem.strerror}") from problem
        if free is not None and needed.folder > free:
            raise error(
                f"{self._folder} has {mib(free)} free; {mib(needed.folder)} are needed: RAM, and "
                "once more what is used of it while it is copied",
                hint=f"{self._larger()}; or fewer guests at once",
            )
        if needed.memory > available and file_system(self._folder) != DAX:
            raise error(
                f"this host has {mib(available)} of memory left; {mib(needed.memory)} more are "
                "needed while RAM is copied",
                hint="free memory, or fewer guests at once",
            )

    def _larger(self) -> str:
        """How the folder gets more room; a region is what was set aside at boot."""
        if file_system(self._folder) == DAX:
            return "harness setup-host --region --resident SIZE, and a reboot"
        return f"mount -o remount,size=SIZE {self._folder}"

    def _remark(self, name: str, one: Adoption) -> str:
        pause_s = self._settings.expected_s or expected_s([one.extent], self._rate)
        needed = room([one.extent], [one.extent])
        free = ram_folder.free_bytes(self._folder)
        left = "no limit" if free is None else f"{mib(free)} free"
        return (
            f"{name}: paused for about {pause_s:.1f} s ({mib(one.extent.memory)} of RAM, "
            f"{mib(min(one.extent.used, one.extent.memory))} in use, at {mib(self._rate)}/s); "
            f"takes {mib(needed.folder)} of {self._folder} while it is copied ({left}) and "
            f"{mib(one.extent.memory)} from then on"
        )

    def _swap_plan(self, name: str) -> SwapPlan:
        program = self._plan[name].program
        return SwapPlan(
            self._parkings[name],
            emulators={"old": str(program.binary), "new": str(program.binary)},
            versions={"old": program.version, "new": program.version},
        )


def parking_for(look: QemuLook, folder: Path, patience_s: float) -> Parking:
    """Return how a guest is parked whose RAM is copied."""
    return Parking(
        name=look.name,
        uuid=look.uuid,
        persistent=look.persistent,
        keep=str(ram_links.keep_folder(folder, look.uuid)),
        files=str(FILES / look.uuid),
        ram_folder=str(folder),
        short_name="",
        ram={},
        commands=str(start_commands.path_for(look.uuid)),
        copied=True,
        process=look.process,
        start_s=patience_s,
    )


def _in(description: str, emulator: Path) -> str:
    """Return a live description (XML) with ``emulator`` as the guest's QEMU."""
    domain = ElementTree.fromstring(description)
    for named in domain.iterfind("devices/emulator"):
        named.text = os.fspath(emulator)
    return ElementTree.tostring(domain, encoding="unicode")


def _define(uuid: str, hypervisor: Hypervisor, deadline: Deadline) -> None:
    """Have a persistent guest booted with its RAM in shared files. Raises UpdateFailed."""
    try:
        definition = hypervisor.parking.definition(uuid, deadline)
        if definition is not None:
            hypervisor.parking.define(keepable(definition), deadline)
    except HarnessError as error:
        raise UpdateFailed(
            f"it can be kept until its next cold boot only; its definition was not changed: "
            f"{error.message}",
            guest=uuid,
        ) from error
