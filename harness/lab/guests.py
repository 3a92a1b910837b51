"""``up`` and ``down``: guests that answer SSH, and then not a trace of them."""

from __future__ import annotations

import ipaddress
import json
import secrets
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

from harness.core.errors import ConnectionLost, HarnessError, LabError, UsageError
from harness.core.files import public_folder
from harness.core.settings import METADATA_ADDRESS
from harness.core.timebase import Deadline, Stopwatch
from harness.host.accelerator import resolve
from harness.host.driver import LibvirtHypervisor
from harness.host.lifecycle import ENDED, GuestState
from harness.host.provision import Provisioner
from harness.host.ram_folder import backing_folder
from harness.lab import daemon, resident, state
from harness.lab.domain import domain_xml
from harness.lab.files import prepare
from harness.lab.images import Image, ensure
from harness.lab.network import destinations, free_subnet, host_address, network_xml
from harness.lab.specs import GuestSpec
from harness.lab.state import LabGuest, LabState, lab_dir
from harness.lab.wait_ssh import wait_for_ssh
from harness.results.report.spoken import counted

Progress = Callable[[str], None]

#: libvirt's own place for images: QEMU's user may pass through it.
_IMAGES = Path("/var/lib/libvirt/images")
#: Not to be listed; QEMU's user finds its files by name.
_PASSABLE = 0o711
METADATA_IP = ipaddress.IPv4Address(METADATA_ADDRESS)
DEFAULT_URI = "qemu:///system"
#: For looking at the guests' states.
_LOOK_S = 30.0


def up(
    specs: Sequence[GuestSpec],
    *,
    deadline: Deadline,
    progress: Progress,
    uri: str = DEFAULT_URI,
    accelerator: str = "auto",
    images: Mapping[str, Image] | None = None,
) -> LabState:
    """Boot ``specs`` and wait until each answers SSH.

    ``images`` are given ones by name; others are built from recipes. Raises UsageError if a lab
    is up already; after any failure everything is cleaned up again.
    """
    _make_room(progress)
    built = {spec.image: (images or {}).get(spec.image) for spec in specs}
    ready = {name: image or ensure(name, progress) for name, image in built.items()}
    lab_id = secrets.token_hex(3)
    lab = LabState(
        lab_id=lab_id,
        uri=uri,
        accelerator=resolve(accelerator).accelerator,
        network=f"harness-lab-{lab_id}",
        run_dir=str(_IMAGES / f"harness-lab-{lab_id}"),
        place=state.this_place(),
    )
    with state.claimed() as claim:
        state.save(lab)
        try:
            return _bring_up(lab, specs, ready, claim, deadline, progress)
        except BaseException:
            progress("cleaning up")
            with suppress(HarnessError):  # the first error is the one to tell
                down(progress)
            raise


def _make_room(progress: Progress) -> None:
    """Refuse if a lab is up; clear away one of which no guest is left."""
    lab = existing()
    if lab is None:
        return
    alive = [guest.name for guest in lab.guests if _states(lab)[guest.uuid] not in ENDED]
    if alive:
        raise UsageError(f"a lab is up already: {', '.join(alive)}", hint="harness lab down")
    down(progress)


def _bring_up(
    lab: LabState,
    specs: Sequence[GuestSpec],
    images: Mapping[str, Image],
    claim: int,
    deadline: Deadline,
    progress: Progress,
) -> LabState:
    watch = Stopwatch()
    run_dir = Path(lab.run_dir)
    try:
        public_folder(run_dir, mode=_PASSABLE, new=True)
    except OSError as error:
        hint = "a lab needs root: sudo" if isinstance(error, PermissionError) else None
        raise LabError(f"cannot make {run_dir}: {error.strerror}", hint=hint) from error
    lab = _with_ram_in_memory(lab, specs)
    daemons = tuple(daemon.ensure(lab.uri, lab_dir(), progress, claim))
    lab = replace(lab, daemons=daemons, borrowed=not daemons)
    state.save(lab)
    with Provisioner.open(lab.uri) as host:
        _refuse_taken_names(host, specs)
        taken = [*host.subnets(), *_routed()]
        subnet = free_subnet(taken)
        metadata = _may_carry_metadata(taken, progress)
        lab = replace(lab, guests=_guests(specs, subnet, run_dir))
        state.save(lab)
        files = prepare(lab, specs, images)
        macs = {spec.mac: guest.address for spec, guest in zip(specs, lab.guests, strict=True)}
        bridge = f"hl{lab.lab_id}"
        host.create_network(network_xml(lab.network, bridge, subnet, macs, metadata=metadata))
        progress(f"booting {counted(len(specs), 'guest')} ({lab.accelerator})")
        for spec in specs:
            xml = domain_xml(spec, files[spec.name], lab.network, lab.accelerator)
            host.create_guest(xml, spec.name)
        wait_for_ssh(lab.guests, deadline, host.is_there)
    state.write_config(lab)
    answer = "answers" if len(specs) == 1 else "answer"
    progress(f"{counted(len(specs), 'guest')} {answer} after {watch.elapsed_s():.0f} s")
    return lab


def _with_ram_in_memory(lab: LabState, specs: Sequence[GuestSpec]) -> LabState:
    """Have libvirt's memory backing folder in memory where a guest is resident."""
    if not any(spec.resident for spec in specs):
        return lab
    folder = backing_folder()
    if resident.needs_mount(folder, borrowed=daemon.answers(lab.uri)):
        lab = replace(lab, ram_mount=str(folder))
        state.save(lab)
        resident.mount(folder)
    return lab


def _refuse_taken_names(host: Provisioner, specs: Sequence[GuestSpec]) -> None:
    names = [spec.name for spec in specs]
    taken = host.guest_names() & set(names) or {n for n in names if names.count(n) > 1}
    if taken:
        raise UsageError(f"there is already a guest called {', '.join(sorted(taken))}")


def _may_carry_metadata(taken: Sequence[ipaddress.IPv4Network], progress: Progress) -> bool:
    """Return whether the lab's network may carry the metadata address; tell if not."""
    carriers = _carriers(METADATA_IP)
    if not carriers and not any(METADATA_IP in network for network in taken):
        return True
    where = f"is on {', '.join(carriers)} already" if carriers else "leads elsewhere here"
    progress(
        f"{METADATA_IP} {where}, so the lab leaves it alone; its guests cannot be told of a pause "
        "(run --notify) unless that address is freed before: see docs/how-to/events.md"
    )
    return False


def _carriers(address: ipaddress.IPv4Address) -> Sequence[str]:
    """The interfaces of this machine that have this very address."""
    command = ["ip", "-json", "-4", "address", "show", "to", f"{address}/32"]
    done = subprocess.run(command, capture_output=True, check=True)
    return [found["ifname"] for found in json.loads(done.stdout or b"[]") if found.get("ifname")]


def _routed() -> Sequence[ipaddress.IPv4Network]:
    """What this machine has routes to, its own interfaces included."""
    done = subprocess.run(["ip", "-json", "-4", "route"], capture_output=True, check=True)
    return destinations(json.loads(done.stdout))


def _guests(
    specs: Sequence[GuestSpec], subnet: ipaddress.IPv4Network, run_dir: Path
) -> tuple[LabGuest, ...]:
    return tuple(
        LabGuest(
            name=spec.name,
            uuid=spec.uuid,
            address=host_address(subnet, number),
            image=spec.image,
            update_domain=spec.update_domain,
            availability_set=spec.availability_set,
            serial_log=str(run_dir / f"{number}.serial.log"),
        )
        for number, spec in enumerate(specs)
    )


def existing() -> LabState | None:
    """The lab that is up here, or None. What a dead one left behind is removed.

    A lab is dead if the machine was booted since, or if the namespace it was in has ended. Its
    guests may have been handed over to this boot, though: then it is here. Raises LabError if one
    is up in another namespace of this machine, where we cannot reach it.
    """
    lab = state.load()
    if lab is None or lab.place == state.this_place():
        return lab
    if lab.borrowed and not state.same_boot(lab.place) and _lives_on(lab):
        lab = replace(lab, place=state.this_place())
        state.save(lab)
        return lab
    if state.is_held() or (lab.borrowed and state.same_boot(lab.place)):
        raise LabError(
            "a lab is up in another namespace of this machine",
            hint="take it down there, or use another HARNESS_STATE_DIR here",
        )
    _remove_files(lab)
    return None


def _lives_on(lab: LabState) -> bool:
    """Whether libvirt has a guest of it; it is transient, and would have ended with its boot."""
    if not daemon.answers(lab.uri):
        return False
    with Provisioner.open(lab.uri) as host:
        return any(host.is_there(one.uuid) for one in lab.guests)


def status() -> dict[str, Any] | None:
    """The lab that is up, with every guest's state; None if there is none.

    States are ``unknown`` where no libvirt answers. Raises LabError as ``existing`` does.
    """
    lab = existing()
    if lab is None:
        return None
    states = _states(lab)
    return {
        "guests": [{**asdict(guest), "state": states[guest.uuid]} for guest in lab.guests],
        "uri": lab.uri,
        "accelerator": lab.accelerator,
        "config": str(lab.config_file),
    }


def _states(lab: LabState) -> dict[str, GuestState]:
    look_until = Deadline.after(_LOOK_S)
    try:
        hypervisor = LibvirtHypervisor.open(lab.uri, look_until)
    except ConnectionLost:
        return {guest.uuid: GuestState.UNKNOWN for guest in lab.guests}
    try:
        return {guest.uuid: hypervisor.state(guest.uuid, look_until).state for guest in lab.guests}
    finally:
        hypervisor.close()


def down(progress: Progress) -> None:
    """Remove every trace of the lab. Idempotent; goes on after a failure, then raises it."""
    lab = existing()
    if lab is None:
        return
    failures: list[HarnessError] = []

    def attempt(step: Callable[[], None]) -> None:
        try:
            step()
        except HarnessError as error:
            failures.append(error)

    if lab.daemons and not daemon.answers(lab.uri):
        # Ours has died; its guests may live on, and only a libvirtd finds them again.
        lab = replace(lab, daemons=tuple(daemon.ensure(lab.uri, lab_dir(), progress)))
        state.save(lab)
    if lab.guests or daemon.answers(lab.uri):  # else it failed before there was anything
        with Provisioner.open(lab.uri) as host:
            for guest in lab.guests:
                attempt(partial(host.destroy_guest, guest.uuid))
            attempt(partial(host.destroy_network, lab.network))
    attempt(partial(daemon.stop, lab.daemons))
    if lab.ram_mount is not None:
        attempt(partial(resident.unmount, Path(lab.ram_mount)))
    if failures:
        raise failures[0]  # the state stays, so that down can be tried again
    _remove_files(lab)
    progress("the lab is down")


def _remove_files(lab: LabState) -> None:
    shutil.rmtree(lab.run_dir, ignore_errors=True)
    state.forget()
