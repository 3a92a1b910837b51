"""Kind ``kernel``: the host's next kernel is started under parked guests, which it brings back.

Everything that can fail is done before a guest is paused: the kernel is loaded, the region marked
or RAM preserved, the thaw plan on the disk. In the window all guests are parked and this kernel is
left, by the window's :class:`~harness.updates.protocol.GuestSwap`; what follows is
:mod:`harness.maintenance.thaw`'s. See docs/explanation/kernel.md.
"""

from __future__ import annotations

import os
import re
import shutil
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from harness.core import tsc
from harness.core.errors import HarnessError, PlanError, UpdateFailed
from harness.core.files import private_folder, write_atomically
from harness.core.identity import boot_id
from harness.core.timebase import Deadline
from harness.host import ram_links
from harness.host.kernel import chains, drivers, kexec, modules, qemus_known, warm_qemu
from harness.host.kernel.writable_again import Watch
from harness.host.parking import NEW, OLD, Parking, QemuLook
from harness.host.protocol import GuestInfo, Hypervisor
from harness.host.region import boot
from harness.host.region.handover import HANDOVER
from harness.updates.kernel import completion, launcher
from harness.updates.kernel.belongings import confinement_of
from harness.updates.kernel.next_kernel import (
    KernelFiles,
    LoadedKernel,
    command_line,
    is_older,
)
from harness.updates.kernel.plan import ThawPlan
from harness.updates.kernel.settings import KernelSettings
from harness.updates.kernel.stores import store
from harness.updates.protocol import (
    THIS_HOST,
    Applied,
    Needs,
    Site,
    SwapPlan,
    UpdateContext,
)
from harness.updates.qemu.successor import successor
from harness.updates.qemu.update import parking_for
from harness.updates.requirements import host_scope, require_this_host

#: From the freeze to the last guest that runs, as long as no run has told; see kernel.md.
_EXPECTED_S = 20.0
#: What of it is this kernel's: guests are parked, disks synced.
_HERE_SHARE = 0.2
#: For how long their return may hold up the boot, at the least.
_LIMIT_S = 120.0
#: To bring all guests back in place: a start of QEMU each, on one core.
_RESERVE_S, _RESERVE_A_GUEST_S = 2.0, 2.0
#: Who started the run has to know beforehand: nothing can be said to a terminal that is gone.
_TOLD = (
    "this host goes on in {release}: its services, connections and this terminal end with the "
    "kernel that runs, and {release} finishes the run; its result is then in `harness report`"
)
#: QEMU refuses the state of a NIC with a feature that the vhost of that kernel has not.
_OLDER = (
    "{release} is older than the kernel that runs: guests that were started under this one may be "
    "refused there, and then wait until the host is in this one again"
)
_CMDLINE, _LOADED_MODULES = Path("/proc/cmdline"), Path("/proc/modules")
#: What QEMU and its NICs may need, as far as this kernel has it loaded.
_MODULES = ("kvm_amd", "kvm_intel", "bridge", "tun", "vhost_net", "vhost_vsock", "macvtap")
#: What the firewall of libvirt's networks has the kernel load, one by one.
_FIREWALL = re.compile(r"(br_netfilter|(x_tables|xt_|nfnetlink|nf_|nft_|ip6?t_|ip6?table_)\w*)$")


class KernelUpdate:
    """Starts the host's next kernel under its guests."""

    kind = "kernel"
    command: tuple[str, ...] = ()

    def __init__(self, settings: KernelSettings, site: Site = THIS_HOST) -> None:
        self._settings = settings
        self._site = site
        self.scope = host_scope(settings)
        self.preserves_memory = settings.preserves_memory
        self.expected_s, self.expected_from = settings.expectation(_EXPECTED_S, site)
        self.warnings: tuple[str, ...] = ()
        self._abandoned = threading.Event()
        self._files: KernelFiles | None = None
        self._store = store(settings.resident)
        self._uuids: dict[str, str] = {}
        self._parkings: dict[str, Parking] = {}
        self._descriptions: dict[str, dict[str, str]] = {}
        self._kernel: LoadedKernel | None = None
        self._hypervisor: Hypervisor | None = None

    @property
    def release(self) -> str:
        """See :class:`harness.updates.protocol.LeavesThisKernel`."""
        return self._files.image.release if self._files is not None else ""

    @property
    def _limit_s(self) -> float:
        return max(_LIMIT_S, 2 * self.expected_s)

    def needs(self, guests: int) -> Needs:
        """See :class:`harness.updates.protocol.GuestUpdate`."""
        return Needs(self.expected_s, _RESERVE_S + _RESERVE_A_GUEST_S * guests)

    def check(self) -> None:
        """Find why this host's kernel cannot be replaced by that one; every reason at once."""
        require_this_host(self.kind, self._site)
        self._files = files = KernelFiles.find(self._settings.kernel, self._settings.initrd)
        silent_s = self.expected_s + self._limit_s + launcher.GRACE_S
        self._store.require_kernel(files, self._line(), silent_s)
        launcher.require_root()
        release = files.image.release
        self.warnings = (_TOLD.format(release=release),)
        if is_older(release, os.uname().release):
            self.warnings += (_OLDER.format(release=release),)

    def examine(
        self, guests: Sequence[GuestInfo], hypervisor: Hypervisor, deadline: Deadline
    ) -> None:
        """See :class:`harness.updates.protocol.GuestUpdate`."""
        self._hypervisor = hypervisor
        self._uuids = {one.name: one.uuid for one in guests}
        looks, hidden = [], []
        for guest in guests:
            try:
                looks.append(hypervisor.parking.look(guest.uuid, deadline))
            except HarnessError as error:
                hidden.append(f"{guest.name}: {error.message}")
        if hidden:
            raise PlanError(f"guests cannot be looked at: {'; '.join(hidden)}")
        self._store.require_guests(looks, hypervisor.guests(deadline), self.release)

    def prepare(self, context: UpdateContext, deadline: Deadline) -> None:
        """Load the kernel and write down how guests come back; no guest is paused yet."""
        self._abandoned.clear()
        files, hypervisor = self._files, self._hypervisor
        if files is None or hypervisor is None or context.swap is None:
            raise UpdateFailed("the guests were not examined")
        first = tsc.steady()
        self._parkings, self._descriptions = {}, {}
        looks = [hypervisor.parking.look(self._uuids[one], deadline) for one in context.guests]
        # A guest that was started since the plan was made would end with this kernel.
        self._store.require_guests(looks, hypervisor.guests(deadline), self.release)
        plans = [self._prepare(look) for look in looks]
        context.swap.prepare(plans)
        said = self._store.begin(context.run_id, looks, [one.parking for one in plans])
        plan = self._thaw_plan(context, files, plans, said)
        needed = (*boot.MODULES, *plan.modules)
        launcher.write(HANDOVER, plan.limit_s, needed)
        completion.write(HANDOVER, context.state_dir)
        plan.write(HANDOVER)
        modules.unpack(files.image.release, needed)
        launcher.require_program(HANDOVER, deadline)
        watch = Watch()
        self._kernel = LoadedKernel(files.image.release, HANDOVER, first, watch)
        watch.require(deadline)
        kexec.load(files.image.path, files.initrd, self._line())

    def apply(self, context: UpdateContext, deadline: Deadline) -> Applied:
        """Hand all guests over and leave this kernel. Raises UpdateFailed if it goes on."""
        if context.swap is None or self._kernel is None:
            raise UpdateFailed("no kernel is loaded")
        if self._abandoned.is_set():
            raise UpdateFailed("the update was abandoned before a guest was parked")
        parkings = [self._parkings[name] for name in context.guests]
        for parking in parkings:
            _lay_out(parking, self._descriptions[parking.name])
            self._store.hold(parking)
        here_s = deadline.remaining_s() - self.expected_s * (1 - _HERE_SHARE)
        context.swap.hand_over(parkings, self._kernel, deadline.sooner(max(0.0, here_s)))

    def verify(self, context: UpdateContext, deadline: Deadline) -> None:
        """See :class:`HostUpdate`: it is the next kernel that is to prove it."""
        running = os.uname().release
        wanted = self._files.image.release if self._files is not None else "unknown"
        if running != wanted:
            raise UpdateFailed(f"the host runs {running}, not {wanted}")

    def rollback(self, context: UpdateContext, deadline: Deadline) -> None:
        """This kernel goes on: forget the one that is loaded, and what was prepared for it."""
        if self._kernel is not None:
            self._kernel.close()
        self._kernel = None
        self._store.end()
        kexec.unload()
        launcher.forget(HANDOVER)
        completion.forget()

    def abandon(self) -> None:
        """Leave this kernel no more: the resume brings back guests that are parked."""
        self._abandoned.set()

    def _line(self) -> str:
        return command_line(self._settings.cmdline or _CMDLINE.read_text(), launcher.path())

    def _prepare(self, look: QemuLook) -> SwapPlan:
        parking = parking_for(look)
        states = str(self._store.states(parking))
        # A start took seconds on an emulated host; what hangs is ended by the plan's own limit.
        parking = replace(parking, files=states, lasting=True, start_s=self.expected_s)
        self._parkings[look.name] = parking
        emulator = Path(ElementTree.fromstring(look.description).findtext("devices/emulator", ""))
        same = successor(look.description, emulator, parking.commands)
        self._descriptions[look.name] = {NEW: same, OLD: same}
        named = {"old": str(emulator), "new": str(emulator)}
        return SwapPlan(parking, named, {"old": look.version, "new": look.version})

    def _thaw_plan(
        self,
        context: UpdateContext,
        files: KernelFiles,
        plans: Sequence[SwapPlan],
        said: Mapping[str, Any],
    ) -> ThawPlan:
        # Where it is needed: libvirt's binding takes a while, and not every process has it.
        from harness.host.kernel import networks

        told = [one[NEW] for one in self._descriptions.values()]
        names = networks.networks_of(told)
        return ThawPlan(
            run_id=context.run_id,
            folder=str(context.run_dir),
            uri=self._site.uri,
            boot_id=boot_id(),
            release=files.image.release,
            ram_folder=plans[0].parking.ram_folder,
            guests=tuple(one.parking for one in plans),
            bridges=bridges(told),
            networks=networks.describe(self._site.uri, names),
            modules=(*_loaded(_MODULES.__contains__), *(_loaded(_FIREWALL.match) if names else ())),
            known=qemus_known.prepared(files.image, told),
            chains=chains.described() if names else {},
            emulators=warm_qemu.described(told),
            drivers=drivers.needed_by(told),
            confined=any("apparmor" in confinement_of(ElementTree.fromstring(one)) for one in told),
            limit_s=self._limit_s,
            **said,
        )


def bridges(descriptions: Iterable[str]) -> tuple[str, ...]:
    """Return the bridges that NICs are on and that no network of libvirt's makes, sorted."""
    found = (
        source.get("bridge", "")
        for text in descriptions
        for source in ElementTree.fromstring(text).iterfind(
            "devices/interface[@type='bridge']/source"
        )
    )
    return tuple(sorted({one for one in found if one}))


def _lay_out(parking: Parking, descriptions: Mapping[str, str]) -> None:
    """Make the guest's private folders in the region. Raises HarnessError."""
    keep, files = Path(parking.keep), Path(parking.files)
    ram_links.remove_keep(keep)
    shutil.rmtree(files, ignore_errors=True)
    ram_links.make_keep(keep)
    try:
        private_folder(files, new=True)
    except OSError as error:
        raise UpdateFailed(f"cannot make {files}: {error.strerror}") from error
    for name, said in descriptions.items():
        write_atomically(files / name, said)


def _loaded(wanted: Callable[[str], object], table: Path = _LOADED_MODULES) -> tuple[str, ...]:
    """The modules that are ``wanted`` and loaded, sorted; a kernel without modules has no table."""
    lines = table.read_text().splitlines() if table.exists() else []
    return tuple(sorted(one for line in lines if wanted(one := line.split(" ", 1)[0])))
