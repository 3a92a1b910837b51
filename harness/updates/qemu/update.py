"""Kind ``qemu``: running guests go on in the QEMU that is installed now, RAM in place.

The program was replaced before (by apt, or kind ``packages``); this replaces the processes. Each
guest is parked and unparked by the window's :class:`~harness.updates.protocol.GuestSwap`, all
guests of an update domain at once. See docs/how-to/qemu.md.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePath
from xml.etree import ElementTree

from harness.core.errors import (
    ConfigError,
    HarnessError,
    NotNeeded,
    PlanError,
    UpdateFailed,
)
from harness.core.settings import Scope
from harness.core.timebase import Deadline
from harness.host import ram_links, start_commands
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
from harness.updates.qemu.eligibility import Obstacle, obstacles, remarks, unfit_pair, unfit_states
from harness.updates.qemu.programs import Program
from harness.updates.qemu.settings import QemuSettings
from harness.updates.qemu.successor import successor
from harness.updates.qemu.swapping import FILES, Patience, introduce, swap_all, trees_of
from harness.updates.requirements import require_this_host

#: One guest on one core, starts of QEMU included; measured 0.6 to 1.5 s on a quiet machine.
_GUEST_S = 3.0
#: To bring guests back in their old QEMU, where the update is abandoned half-way: beside these
#: seconds, that share of what it is expected to take.
_RESERVE_S, _RESERVE_SHARE = 2.0, 2 / 3


@dataclass(frozen=True)
class Replacement:
    """What is to happen to one guest."""

    name: str
    uuid: str
    old: Program
    new: Program


class QemuUpdate:
    """Replaces the QEMU processes of the guests of an update domain."""

    kind = "qemu"
    command: tuple[str, ...] = ()

    def __init__(
        self, settings: QemuSettings, site: Site = THIS_HOST, cores: int | None = None
    ) -> None:
        if settings.scope is Scope.HOST:
            raise ConfigError(
                "an update of kind qemu is applied guest by guest, so its scope is guest",
                key="update.scope",
            )
        self._settings = settings
        self._site = site
        self._cores = cores or os.cpu_count() or 1
        self.scope = Scope.GUEST
        self.preserves_memory = settings.preserves_memory
        self.expected_s = self.needs(1).expected_s
        self.expected_from = "update.expected_s" if settings.expected_s else _from(self._cores)
        self._plan: dict[str, Replacement] = {}
        self._parkings: dict[str, Parking] = {}
        self._descriptions: dict[str, dict[str, str]] = {}
        self._patience = Patience()
        self._hypervisor: Hypervisor | None = None
        self._abandoned = threading.Event()
        self._remarks: list[str] = []

    @property
    def warnings(self) -> tuple[str, ...]:
        """What a person should know of each guest; complete after ``examine``."""
        return tuple(self._remarks)

    def needs(self, guests: int) -> Needs:
        """See :class:`harness.updates.protocol.GuestUpdate`."""
        usual_s = _GUEST_S * max(1.0, guests / self._cores)
        expected_s = self._settings.expected_s or usual_s
        return Needs(expected_s, _RESERVE_S + _RESERVE_SHARE * max(usual_s, expected_s))

    def check(self) -> None:
        """Raise UsageError or MissingCapability where this host cannot be changed from here."""
        require_this_host(self.kind, self._site)
        if self._settings.tree is not None and self._settings.emulator is not None:
            raise ConfigError("stands beside update.tree", key="update.emulator")
        for key, path in (
            ("emulator", self._settings.emulator),
            ("tree", self._settings.tree),
            ("previous", self._settings.previous),
        ):
            if path is not None and not path.exists():
                raise ConfigError(f"{path} does not exist", key=f"update.{key}")

    def examine(
        self, guests: Sequence[GuestInfo], hypervisor: Hypervisor, deadline: Deadline
    ) -> None:
        """See :class:`harness.updates.protocol.GuestUpdate`."""
        self._hypervisor = hypervisor
        self._plan, self._remarks = {}, []
        refusals: list[tuple[str, str]] = []
        needless: set[str] = set()
        for guest in guests:
            try:
                look = hypervisor.parking.look(guest.uuid, deadline)
            except HarnessError as error:
                refusals.append((guest.name, error.message))
                continue
            found = [str(one) for one in obstacles(look)]
            try:
                self._plan[guest.name] = self._replacement(look, deadline)
            except HarnessError as error:
                if isinstance(error, NotNeeded) and not found:
                    needless.add(guest.name)
                found.append(str(Obstacle(error.message, error.hint or "see the message")))
            refusals += [(guest.name, why) for why in found]
            if not found:
                self._remark(look, self._plan[guest.name])
        if refusals:
            refused = NotNeeded if len(needless) == len(guests) else PlanError
            told = "; ".join(f"{name}: {why}" for name, why in refusals)
            raise refused(
                f"the QEMU of {len({name for name, _ in refusals})} of {len(guests)} guests cannot "
                f"be replaced: {told}",
                hint="docs/how-to/qemu.md says which guests can be; leave the others out",
            )

    def prepare(self, context: UpdateContext, deadline: Deadline) -> None:
        """Look again, have libvirt know both QEMUs, and write down how guests come back."""
        self._abandoned.clear()
        if self._hypervisor is None or context.swap is None:
            raise UpdateFailed("the guests were not examined")
        self._parkings, self._descriptions = {}, {}
        self._patience = Patience()
        for name in context.guests:
            self._prepare(self._plan[name], self._hypervisor, deadline)
        context.swap.prepare([self._swap_plan(name) for name in context.guests])

    def apply(self, context: UpdateContext, deadline: Deadline) -> Applied:
        """Replace all at once. Raises UpdateFailed, which says of each that failed where it is."""
        swap_all(
            context, self._parkings, self._descriptions, self._abandoned, deadline, to_be="parked"
        )
        versions = {
            self._plan[n].old.version + " → " + self._plan[n].new.version for n in context.guests
        }
        return Applied(0, detail=", ".join(sorted(versions)))

    def verify(self, context: UpdateContext, deadline: Deadline) -> None:
        """Each guest's QEMU is the planned one, and writes out all of its RAM again."""
        self._expect(context, deadline, lambda plan: (plan.new.version,))

    def rollback(self, context: UpdateContext, deadline: Deadline) -> None:
        """Guests that were refused are in their old QEMU already; the others stay in the new."""
        self._expect(context, deadline, lambda plan: (plan.new.version, plan.old.version))

    def abandon(self) -> None:
        """Park no further guest; the resume brings back those that are parked."""
        self._abandoned.set()

    def _expect(
        self,
        context: UpdateContext,
        deadline: Deadline,
        versions: Callable[[Replacement], tuple[str, ...]],
    ) -> None:
        if self._hypervisor is None:
            raise UpdateFailed("the guests were not examined")
        wrong = []
        for name in context.guests:
            plan = self._plan[name]
            look = self._hypervisor.parking.look(plan.uuid, deadline)
            if look.version not in versions(plan):
                wrong.append(f"{name} runs in QEMU {look.version}, not {versions(plan)[0]}")
            if look.capable:
                wrong.append(f"{name}: its RAM would be left out when it is saved")
        if wrong:
            raise UpdateFailed("; ".join(wrong))

    def _replacement(self, look: QemuLook, deadline: Deadline) -> Replacement:
        """Raises PlanError or UpdateFailed."""
        own = Path(ElementTree.fromstring(look.description).findtext("devices/emulator", ""))
        new = self._new(own, deadline)
        if look.version == new.version and not self._settings.again and not self._ahead:
            raise NotNeeded(
                f"it runs in QEMU {new.version} already",
                hint="leave it out, or rehearse with update.again = true",
            )
        why = unfit_pair(look.libvirt, new.version) or unfit_states(look.version, new.version)
        if why is not None:
            raise PlanError(why.reason, hint=why.fix)
        stays = not (self._ahead and "packages" in self._site.follows)
        previous = self._settings.previous
        old = programs.running(own, look.version, previous, deadline, stays=stays)
        return Replacement(look.name, look.uuid, old, new)

    def _swap_plan(self, name: str) -> SwapPlan:
        plan = self._plan[name]
        return SwapPlan(
            self._parkings[name],
            emulators={"old": str(plan.old.binary), "new": str(plan.new.binary)},
            versions={"old": plan.old.version, "new": plan.new.version},
        )

    def _new(self, own: Path, deadline: Deadline) -> Program:
        if self._settings.tree is not None:
            return programs.in_tree(self._settings.tree, own.name, deadline)
        return programs.installed(self._settings.emulator or programs.usual(own), deadline)

    @property
    def _ahead(self) -> bool:
        """Whether a window comes before this one that may install the QEMU to go on in."""
        return bool(self._site.follows) and self._settings.tree is None

    def _remark(self, look: QemuLook, plan: Replacement) -> None:
        new = "what is installed when its window comes" if self._ahead else plan.new.version
        self._remarks.append(f"{look.name}: QEMU {plan.old.version} → {new}")
        self._remarks += [f"{look.name}: {said}" for said in remarks(look, plan.new.version)]

    def _prepare(self, plan: Replacement, hypervisor: Hypervisor, deadline: Deadline) -> None:
        look = hypervisor.parking.look(plan.uuid, deadline)
        found = obstacles(look)
        if found:
            raise UpdateFailed(f"its QEMU cannot be replaced: {_joined(found)}", guest=plan.name)
        start_s = self._settings.expected_s or 0.0
        for program in (plan.old, plan.new):
            introduce(program, look, hypervisor, deadline)
            start_s = max(start_s, self._patience.of(program, look, deadline))
        parking = replace(
            parking_for(look),
            trees=trees_of(plan.old, plan.new),
            start_s=start_s,
        )
        self._parkings[plan.name] = parking
        self._descriptions[plan.name] = {
            NEW: successor(look.description, plan.new.emulator, parking.commands),
            OLD: successor(look.description, plan.old.emulator, parking.commands),
        }


def parking_for(look: QemuLook) -> Parking:
    """Return how a guest that can be parked would be."""
    instance = PurePath(look.backings[0].path).parent
    return Parking(
        name=look.name,
        uuid=look.uuid,
        persistent=look.persistent,
        keep=str(ram_links.keep_folder(Path(instance.parent), look.uuid)),
        files=str(FILES / look.uuid),
        ram_folder=str(instance.parent),
        short_name=instance.name.partition("-")[2],
        ram={PurePath(one.path).name: one.identity for one in look.backings},
        commands=str(start_commands.path_for(look.uuid)),
        highest_id=max(look.highest_id, look.number),
    )


def _joined(found: Sequence[Obstacle]) -> str:
    return "; ".join(map(str, found))


def _from(cores: int) -> str:
    return f"{_GUEST_S:g} s a guest on {cores} core{'' if cores == 1 else 's'}"
