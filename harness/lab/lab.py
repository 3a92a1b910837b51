"""``up`` and ``down``: guests that answer SSH, and then not a trace of them."""

from __future__ import annotations

import ipaddress
import json
import secrets
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

from harness.errors import HarnessError, LabError, UsageError
from harness.fanout import errors, fan_out
from harness.host.accelerator import resolve
from harness.host.driver import LibvirtHypervisor
from harness.host.provision import Provisioner
from harness.lab import daemon, state
from harness.lab.domain import BootFiles, domain_xml
from harness.lab.images import Image, ensure
from harness.lab.keys import KeyPair, new_key
from harness.lab.network import free_subnet, host_address, network_xml
from harness.lab.seed import Seed, append_to_initrd, write_cloud_iso
from harness.lab.specs import GuestSpec
from harness.lab.state import LabGuest, LabState
from harness.timebase import Deadline, NotYet, Stopwatch, wait_for

Progress = Callable[[str], None]

#: libvirt's own place for images: QEMU's user may pass through it.
_IMAGES = Path("/var/lib/libvirt/images")
DEFAULT_URI = "qemu:///system"


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
    if (existing := status()) is not None:
        names = ", ".join(guest["name"] for guest in existing["guests"])
        raise UsageError(f"a lab is up already: {names}", hint="harness lab down")
    built = {spec.image: (images or {}).get(spec.image) for spec in specs}
    ready = {name: image or ensure(name, progress) for name, image in built.items()}
    lab_id = secrets.token_hex(3)
    lab = LabState(
        lab_id=lab_id,
        uri=uri,
        accelerator=resolve(accelerator).accelerator,
        network=f"harness-lab-{lab_id}",
        run_dir=str(_IMAGES / f"harness-lab-{lab_id}"),
    )
    state.save(lab)
    try:
        return _bring_up(lab, specs, ready, deadline, progress)
    except BaseException:
        progress("cleaning up")
        down(progress)
        raise


def _bring_up(
    lab: LabState,
    specs: Sequence[GuestSpec],
    images: Mapping[str, Image],
    deadline: Deadline,
    progress: Progress,
) -> LabState:
    watch = Stopwatch()
    run_dir = Path(lab.run_dir)
    run_dir.mkdir(mode=0o711, parents=True)
    lab = replace(lab, daemons=tuple(daemon.ensure(lab.uri, run_dir, progress)))
    state.save(lab)
    with Provisioner.open(lab.uri) as host:
        _refuse_taken_names(host, specs)
        subnet = free_subnet([*host.subnets(), *_own_subnets()])
        lab = replace(lab, guests=_guests(specs, subnet, run_dir))
        state.save(lab)
        files = _prepare_files(lab, specs, images, run_dir)
        macs = {spec.mac: guest.address for spec, guest in zip(specs, lab.guests, strict=True)}
        bridge = f"hl{lab.lab_id}"
        host.create_network(network_xml(lab.network, bridge, subnet, macs))
        progress(f"booting {len(specs)} guests ({lab.accelerator})")
        for spec in specs:
            xml = domain_xml(spec, files[spec.name], lab.network, lab.accelerator)
            host.create_guest(xml, spec.name)
    _wait_for_ssh(lab, deadline)
    state.write_config(lab)
    progress(f"{len(specs)} guests answer after {watch.elapsed_s():.0f} s")
    return lab


def _refuse_taken_names(host: Provisioner, specs: Sequence[GuestSpec]) -> None:
    names = [spec.name for spec in specs]
    taken = host.guest_names() & set(names) or {n for n in names if names.count(n) > 1}
    if taken:
        raise UsageError(f"there is already a guest called {', '.join(sorted(taken))}")


def _own_subnets() -> Iterable[ipaddress.IPv4Network]:
    """The IPv4 subnets of this machine's interfaces."""
    done = subprocess.run(["ip", "-json", "-4", "addr"], capture_output=True, check=True)
    for interface in json.loads(done.stdout):
        for entry in interface.get("addr_info", ()):
            yield ipaddress.IPv4Network(f"{entry['local']}/{entry['prefixlen']}", strict=False)


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


def _prepare_files(
    lab: LabState, specs: Sequence[GuestSpec], images: Mapping[str, Image], run_dir: Path
) -> dict[str, BootFiles]:
    """Keys, seeds, and per guest its own initrd, overlay disk or ISO."""
    user_key = new_key()
    host_keys = [new_key() for _ in specs]
    addresses = [guest.address for guest in lab.guests]
    pinned = [(address, key.public) for address, key in zip(addresses, host_keys, strict=True)]
    state.write_keys(lab, user_key.private, pinned)
    bases = {name: _readable_base(image, run_dir) for name, image in images.items()}
    return {
        spec.name: _guest_files(
            number, images[spec.image], bases[spec.image], _seed(spec, key, user_key), run_dir
        )
        for number, (spec, key) in enumerate(zip(specs, host_keys, strict=True))
    }


def _seed(spec: GuestSpec, host_key: KeyPair, user_key: KeyPair) -> Seed:
    hostname = "".join(c if c.isascii() and c.isalnum() else "-" for c in spec.name).strip("-")
    return Seed(hostname[:63] or "guest", host_key, user_key.public)


def _readable_base(image: Image, run_dir: Path) -> Image:
    """Copies that QEMU's own user can read; the cache may lie in somebody's private home."""

    def copy(source: Path | None) -> Path | None:
        if source is None:
            return None
        target = run_dir / f"{image.name}-{source.name}"
        _tool("cp", "--sparse=always", "--reflink=auto", str(source), str(target))
        target.chmod(0o644)
        return target

    return replace(image, kernel=copy(image.kernel), disk=copy(image.disk))


def _guest_files(number: int, image: Image, base: Image, seed: Seed, run_dir: Path) -> BootFiles:
    """Files are numbered, not named: a guest's name is no file name."""
    initrd = disk = cdrom = None
    if image.initrd is not None:
        initrd = run_dir / f"{number}.initrd"
        append_to_initrd(image.initrd, seed, initrd)
        initrd.chmod(0o644)
    else:
        cdrom = run_dir / f"{number}.seed.iso"
        write_cloud_iso(seed, cdrom)
        cdrom.chmod(0o644)
    if base.disk is not None:
        disk = run_dir / f"{number}.qcow2"
        backing = ("-F", base.disk_format, "-b", str(base.disk))
        _tool("qemu-img", "create", "-q", "-f", "qcow2", *backing, str(disk))
    return BootFiles(run_dir / f"{number}.serial.log", base.kernel, initrd, disk, cdrom)


def _tool(*command: str) -> None:
    try:
        subprocess.run(command, check=True, capture_output=True, stdin=subprocess.DEVNULL)
    except FileNotFoundError as error:
        raise LabError(f"{command[0]} is not installed", hint="make setup") from error
    except subprocess.CalledProcessError as error:
        said = error.stderr.decode(errors="replace").strip()
        raise LabError(f"{command[0]} ended with status {error.returncode}: {said}") from error


def _wait_for_ssh(lab: LabState, deadline: Deadline) -> None:
    calls = {
        guest.name: partial(
            wait_for,
            partial(_banner, guest.address),
            what="booting",
            deadline=deadline,
            interval_s=0.25,
        )
        for guest in lab.guests
    }
    logs = {guest.name: Path(guest.serial_log) for guest in lab.guests}
    for name, error in errors(fan_out(calls, deadline, what="booting")).items():
        tail = logs[name].read_text(errors="replace")[-400:] if logs[name].exists() else ""
        last = tail.strip().splitlines()[-1:] or ["nothing on its console"]
        raise LabError(f"does not answer SSH: {error}", guest=name, hint=f"console: {last[0]}")


def _banner(address: str) -> None:
    """Raises NotYet until an SSH server introduces itself."""
    try:
        with closing(socket.create_connection((address, 22), timeout=2)) as connection:
            if not connection.recv(4).startswith(b"SSH-"):
                raise NotYet(f"{address}: port 22 is not SSH")
    except OSError as error:
        raise NotYet(f"{address}: {error.strerror or error}") from error


def status() -> dict[str, Any] | None:
    """The lab that is up, with every guest's state; None if there is none.

    A lab whose libvirt is gone (a machine that was rebooted, a namespace that ended) is removed.
    """
    lab = state.load()
    if lab is None:
        return None
    if not daemon.answers(lab.uri):
        down(lambda line: None)
        return None
    look_until = Deadline.after(30)
    hypervisor = LibvirtHypervisor.open(lab.uri, look_until)
    try:
        guests = [
            {**asdict(guest), "state": hypervisor.state(guest.uuid, look_until).state.value}
            for guest in lab.guests
        ]
    finally:
        hypervisor.close()
    return {
        "guests": guests,
        "uri": lab.uri,
        "accelerator": lab.accelerator,
        "config": str(lab.config_file),
    }


def down(progress: Progress) -> None:
    """Remove every trace of the lab. Idempotent; goes on after a failure, then raises it."""
    lab = state.load()
    if lab is None:
        return
    failures: list[HarnessError] = []

    def attempt(step: Callable[[], None]) -> None:
        try:
            step()
        except HarnessError as error:
            failures.append(error)

    if daemon.answers(lab.uri):
        with Provisioner.open(lab.uri) as host:
            for guest in lab.guests:
                attempt(partial(host.destroy_guest, guest.uuid))
            attempt(partial(host.destroy_network, lab.network))
    attempt(partial(daemon.stop, lab.daemons))
    shutil.rmtree(lab.run_dir, ignore_errors=True)
    if failures:
        raise failures[0]  # the state stays, so that down can be tried again
    state.forget()
    progress("the lab is down")
