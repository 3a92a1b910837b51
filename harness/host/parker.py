"""Parking by libvirt: its own save and restore, with the RAM left where it is.

See :mod:`harness.host.parking` for what it offers, :mod:`harness.host.ram_links` for how the RAM is
kept and :mod:`harness.host.start_commands` for how a QEMU learns of it.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, Protocol, TypeVar

import libvirt
import libvirt_qemu

from harness.core.errors import (
    GuestNotFound,
    HarnessError,
    HypervisorError,
    InfrastructureError,
    WrongState,
)
from harness.core.timebase import SYSTEM_CLOCK, Clock, Deadline
from harness.host import confinement, copied_ram, ram_links
from harness.host.connections import Link
from harness.host.given_up_start import await_process
from harness.host.parked_files import (
    COPY,
    copy_managed_save,
    forget_for_good,
    has_copy,
    is_kept,
    kept_again,
    let_go,
    locked,
    make_ready,
    offer_more,
    use_copy,
)
from harness.host.parking import (
    NEW,
    OLD,
    Berth,
    Parking,
    ProcessIdentity,
    QemuLook,
    Unparked,
)
from harness.host.qemu_look import look
from harness.host.qemu_memory import maps_files
from harness.host.start_commands import StartCommands, capability, description
from harness.host.translate import translated

T = TypeVar("T")
#: For another process of harness that ends a start, or has just unparked the guest.
_LOCK_S = 1.0
#: The first, and once more when the id that libvirt gives is known.
_ATTEMPTS = 2
_PAUSED = libvirt.VIR_DOMAIN_SAVE_PAUSED
_DEFINITION = libvirt.VIR_DOMAIN_XML_SECURE | libvirt.VIR_DOMAIN_XML_INACTIVE


class Caller(Protocol):
    """Does work with a connection of its own, in a thread of its own, by the deadline."""

    def __call__(
        self, operation: str, guest: str | None, deadline: Deadline, work: Callable[[Link], T]
    ) -> T:
        """Return what ``work`` returns. Raises what it raises, or DeadlineExpired."""


def monitor(domain: libvirt.virDomain, command: str, **arguments: Any) -> Any:
    """Return what QEMU's monitor answers. Raises libvirtError or HypervisorError."""
    request = {"execute": command, **({"arguments": arguments} if arguments else {})}
    reply = json.loads(libvirt_qemu.qemuMonitorCommand(domain, json.dumps(request), 0))
    if "error" in reply:
        said = reply["error"].get("desc", "no reason")
        raise HypervisorError(f"QEMU refused {command}: {said}", operation=command)
    return reply.get("return")


class LibvirtParking:
    """Offers :class:`harness.host.parking.GuestParking`."""

    def __init__(
        self,
        call: Caller,
        process: Callable[[str], ProcessIdentity | None],
        is_started: Callable[[str, str], bool],
        clock: Clock = SYSTEM_CLOCK,
        ask: Callable[..., Any] = monitor,
    ) -> None:
        """``process`` finds the QEMU of a guest; ``ask`` is QEMU's monitor.

        ``is_started`` tells, by UUID and name, whether libvirt knows a process of a guest that it
        starts.
        """
        self._call = call
        self._process = process
        self._is_started = is_started
        self._clock = clock
        self._ask = ask

    def look(self, uuid: str, deadline: Deadline) -> QemuLook:
        """See :class:`~harness.host.parking.GuestParking`."""

        def work(link: Link) -> QemuLook:
            link.forget(uuid)
            return look(link.guest(uuid), link.connection, self._process(uuid), self._ask)

        return self._call("looking at the QEMU", uuid, deadline, work)

    def probe(
        self, emulator: str, arch: str, machine: str, accelerator: str, deadline: Deadline
    ) -> None:
        """See :class:`~harness.host.parking.GuestParking`."""

        def work(link: Link) -> None:
            with translated(f"probing {emulator}"):
                link.connection.getDomainCapabilities(emulator, arch, machine, accelerator)

        self._call("probing a QEMU", None, deadline, work)

    def park(self, parking: Parking, deadline: Deadline) -> None:
        """See :class:`~harness.host.parking.GuestParking`."""

        def work(link: Link) -> None:
            domain = _anew(parking, link)
            with translated("parking", parking.name):
                state, _ = domain.state()
                number = domain.ID()
                if state != libvirt.VIR_DOMAIN_PAUSED:
                    raise WrongState("is not paused", operation="parking", guest=parking.name)
                deadline.check("parking")  # the caller no longer waits
                if parking.copied:
                    make_ready(parking, parking.highest_id)
                    copied_ram.save(parking, domain)
                    return
                self._ask(domain, "migrate-set-capabilities", **capability(on=True))
                ram_links.hold(Path(parking.keep), _instance(parking, number), parking.ram)
                # Beforehand: once it is parked, any program may start it, also if harness died.
                make_ready(parking, parking.highest_id)
                _save(parking, domain)
                # The folder of the instance that has ended is gone, and on offer from now on.
                with suppress(HarnessError):
                    make_ready(parking, parking.highest_id)

        self._call("parking", parking.uuid, deadline, work)

    def unpark(self, parking: Parking, deadline: Deadline, *, new: bool) -> Unparked:
        """See :class:`~harness.host.parking.GuestParking`."""

        def work(link: Link) -> Unparked:
            began_ns = self._clock.monotonic_ns()
            if self._berth(parking, link) is Berth.ADRIFT:
                self._end_start(parking, link, deadline)
            if parking.copied and (domain := _domain(parking, link)) is not None:
                copied_ram.end_save(domain)
            highest = parking.highest_id
            for _ in range(_ATTEMPTS):
                if self._berth(parking, link) is Berth.AFLOAT:
                    break
                highest = self._start(parking, link, deadline, new=new, highest=highest)
            process = self._put_in_order(parking, link, deadline)
            return Unparked(process, began_ns, self._clock.monotonic_ns())

        return self._call("unparking", parking.uuid, deadline, work)

    def end_start(self, parking: Parking, deadline: Deadline) -> None:
        """See :class:`~harness.host.parking.GuestParking`."""

        def work(link: Link) -> None:
            self._end_start(parking, link, deadline)

        self._call("ending a start", parking.uuid, deadline, work)

    def berth(self, parking: Parking, deadline: Deadline) -> Berth:
        """See :class:`~harness.host.parking.GuestParking`."""
        return self._call(
            "looking for", parking.uuid, deadline, lambda link: self._berth(parking, link)
        )

    def settle(self, parking: Parking, deadline: Deadline) -> None:
        """See :class:`~harness.host.parking.GuestParking`."""

        def work(link: Link) -> None:
            domain = _domain(parking, link)
            _forget_state(parking, domain)
            current = _folder(parking, domain.ID()) if domain is not None else ""
            with suppress(HarnessError, libvirt.libvirtError):
                # Also of one that was taken over: else its next save would be without RAM.
                if domain is not None and domain.isActive():
                    self._ask(domain, "migrate-set-capabilities", **capability(on=False))
            _withdraw(parking, current)
            instance = Path(parking.ram_folder, current) if current else None
            let_go(parking, self._process(parking.uuid), instance)
            with suppress(InfrastructureError):
                confinement.dismiss(parking)
            ram_links.remove_keep(Path(parking.keep))
            shutil.rmtree(parking.files, ignore_errors=True)

        self._call("tidying up after", parking.uuid, deadline, work)

    def definition(self, uuid: str, deadline: Deadline) -> str | None:
        """See :class:`~harness.host.parking.GuestParking`."""

        def work(link: Link) -> str | None:
            with translated("reading the definition", uuid):
                domain = link.guest(uuid)
                return str(domain.XMLDesc(_DEFINITION)) if domain.isPersistent() else None

        return self._call("reading the definition", uuid, deadline, work)

    def define(self, xml: str, deadline: Deadline) -> None:
        """See :class:`~harness.host.parking.GuestParking`."""

        def work(link: Link) -> None:
            with translated("defining a guest"):
                link.connection.defineXML(xml)

        self._call("defining a guest", None, deadline, work)

    def _start(
        self, parking: Parking, link: Link, deadline: Deadline, *, new: bool, highest: int
    ) -> int:
        """Start a QEMU with the RAM on offer; return the highest id that is known now.

        Raises HypervisorError if it refuses. One that got other RAM is ended again.
        """
        if not kept_again(parking):
            raise GuestNotFound(
                "its RAM is not kept any more", operation="unparking", guest=parking.name
            )
        _use_copy(parking, link)
        make_ready(parking, highest)
        deadline.check("unparking")  # another process may bring it back by now
        try:
            with translated("unparking", parking.name):
                _restore(parking, link, NEW if new else OLD)
        except HypervisorError:
            if self._berth(parking, link) is not Berth.AFLOAT:  # else another of us was faster
                offer_more(parking)
                raise
        deadline.check("unparking")
        domain = _domain(parking, link)
        if domain is not None:
            highest = max(highest, domain.ID())
        if self._berth(parking, link) is not Berth.AFLOAT:
            self._end_start(parking, link, deadline)
        return highest

    def _put_in_order(
        self, parking: Parking, link: Link, deadline: Deadline
    ) -> ProcessIdentity | None:
        """Have a guest that has its own RAM be like any other."""
        files = Path(parking.files)
        with locked(files, deadline.sooner(_LOCK_S)):
            if self._berth(parking, link) is not Berth.AFLOAT:
                raise HypervisorError(
                    "its QEMU did not get its own RAM", operation="unparking", guest=parking.name
                )
            domain = _anew(parking, link)
            with translated("unparking", parking.name):
                self._ask(domain, "migrate-set-capabilities", **capability(on=False))
                current = _folder(parking, domain.ID())
            for file in (Path(parking.state), files / COPY):
                with suppress(OSError):
                    file.unlink(missing_ok=True)
            if parking.lasting:
                forget_for_good(parking)
        if not parking.copied:
            StartCommands(Path(parking.commands)).disarm()
        _withdraw(parking, current)
        return self._process(parking.uuid)

    def _end_start(self, parking: Parking, link: Link, deadline: Deadline) -> None:
        await_process(
            parking.name,
            partial(_domain, parking, link),
            lambda: self._is_started(parking.uuid, parking.name),
            deadline,
        )
        domain = _domain(parking, link)
        if domain is None:
            return
        files = Path(parking.files)
        with locked(files, deadline.sooner(_LOCK_S)) as held, suppress(GuestNotFound):
            # A transient guest is not found when it has ended.
            with translated("ending a start", parking.name):
                unparked = not Path(parking.state).exists() and not (files / COPY).exists()
                runs = domain.state()[0] == libvirt.VIR_DOMAIN_RUNNING
                if not held or unparked or runs or not domain.isActive():
                    return
                domain.destroy()
            domain = _domain(parking, link)
            if parking.copied:
                return
            if domain is not None and not domain.hasManagedSaveImage():
                use_copy(parking)

    def _berth(self, parking: Parking, link: Link) -> Berth:
        process = self._process(parking.uuid)
        if process is not None:
            if parking.copied:
                return copied_ram.berth(parking, process)
            mine = maps_files(process.pid, set(parking.ram.values()))
            return Berth.AFLOAT if mine else Berth.ADRIFT
        saved = False
        domain = _domain(parking, link)
        # A transient one may go at any time, with a start that fails.
        with suppress(GuestNotFound), translated("looking for", parking.name):
            if domain is not None and domain.isActive():
                return Berth.ADRIFT
            saved = domain is not None and domain.hasManagedSaveImage()
        saved = saved or Path(parking.state).exists() or has_copy(parking)
        return Berth.PARKED if saved and is_kept(parking) else Berth.LOST


def _folder(parking: Parking, number: int) -> str:
    return f"{number}-{parking.short_name}"


def _instance(parking: Parking, number: int) -> Path:
    return Path(parking.ram_folder, _folder(parking, number))


def _anew(parking: Parking, link: Link) -> libvirt.virDomain:
    """Looked up again: a handle keeps the id of the instance that it was made for."""
    link.forget(parking.uuid)
    return link.guest(parking.uuid)


def _domain(parking: Parking, link: Link) -> libvirt.virDomain | None:
    try:
        return _anew(parking, link)
    except GuestNotFound:
        return None


def _withdraw(parking: Parking, current: str) -> None:
    """Take back what was laid ready for its next QEMU, but for the folder ``current``."""
    if parking.copied:
        copied_ram.withdraw(parking)
        return
    ram_links.withdraw(Path(parking.ram_folder), parking.short_name, parking.ram, current)


def _save(parking: Parking, domain: libvirt.virDomain) -> None:
    new_xml = description(parking, NEW)
    if not parking.persistent:
        domain.saveFlags(parking.state, new_xml, _PAUSED)
        return
    domain.managedSave(_PAUSED)
    domain.managedSaveDefineXML(new_xml, _PAUSED)
    copy_managed_save(parking)


def _forget_state(parking: Parking, domain: libvirt.virDomain | None) -> None:
    """Remove the managed save of a guest whose RAM is gone, as after a reboot of the host.

    It must not be started by that with empty RAM, nor with a disk that is newer. A managed save of
    another program's is left alone. Raises HarnessError.
    """
    commands = StartCommands(Path(parking.commands))
    if domain is None or not commands.armed or is_kept(parking):
        return
    with translated("tidying up after", parking.name):
        if domain.isActive() or not domain.hasManagedSaveImage():
            return
        if parking.commands in domain.managedSaveGetXMLDesc(0):
            domain.managedSaveRemove(0)
    commands.disarm()


def _use_copy(parking: Parking, link: Link) -> None:
    """The managed save was removed: have the copy be the state. Raises HarnessError."""
    domain = _domain(parking, link)
    with translated("unparking", parking.name):
        managed = domain is not None and domain.hasManagedSaveImage()
    if not managed and has_copy(parking):
        use_copy(parking)


def _restore(parking: Parking, link: Link, which: str) -> None:
    domain = _domain(parking, link)
    if domain is None or not domain.hasManagedSaveImage():
        link.connection.restoreFlags(parking.state, description(parking, which), _PAUSED)
        return
    try:
        domain.managedSaveDefineXML(description(parking, which), _PAUSED)
    except InfrastructureError:
        if which != NEW:  # which it names by itself
            raise
    domain.createWithFlags(libvirt.VIR_DOMAIN_START_PAUSED)
