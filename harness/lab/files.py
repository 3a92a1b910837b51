"""The files that one lab's guests boot from, where QEMU's own user can read them."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from harness.core.errors import LabError
from harness.lab import state
from harness.lab.domain import BootFiles
from harness.lab.images import Image
from harness.lab.keys import KeyPair, new_key
from harness.lab.seed import Seed, append_to_initrd, write_cloud_iso
from harness.lab.specs import GuestSpec
from harness.lab.state import LabState


def prepare(
    lab: LabState, specs: Sequence[GuestSpec], images: Mapping[str, Image]
) -> dict[str, BootFiles]:
    """Make new keys, and for each guest its own initrd or ISO and its own disk over a shared base.

    Returns guest name → files. Raises LabError.
    """
    run_dir = Path(lab.run_dir)
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
    """Copies that QEMU's own user can read; the cache may be in a private home."""

    def copy(source: Path | None) -> Path | None:
        if source is None:
            return None
        target = run_dir / f"{image.name}-{source.name}"
        _tool("cp", "--sparse=always", "--reflink=auto", str(source), str(target))
        target.chmod(0o644)
        return target

    return replace(image, kernel=copy(image.kernel), disk=copy(image.disk))


def _guest_files(number: int, image: Image, base: Image, seed: Seed, run_dir: Path) -> BootFiles:
    """Files are numbered, not named: a guest's name is no file name.

    They hold the guest's keys, so they are for root and for QEMU's user, who gets
    them for as long as the guest runs.
    """
    initrd = disk = seed_iso = None
    if image.initrd is not None:
        initrd = run_dir / f"{number}.initrd"
        append_to_initrd(image.initrd, seed, initrd)
    else:
        seed_iso = run_dir / f"{number}.seed.iso"
        write_cloud_iso(seed, seed_iso)
    if base.disk is not None:
        disk = run_dir / f"{number}.qcow2"
        backing = ("-F", base.disk_format, "-b", str(base.disk))
        _tool("qemu-img", "create", "-q", "-f", "qcow2", *backing, str(disk))
    for file in (initrd, seed_iso, disk):
        if file is not None:
            file.chmod(0o600)
    return BootFiles(run_dir / f"{number}.serial.log", base.kernel, initrd, disk, seed_iso)


def _tool(*command: str) -> None:
    try:
        subprocess.run(command, check=True, capture_output=True, stdin=subprocess.DEVNULL)
    except FileNotFoundError as error:
        raise LabError(f"{command[0]} is not installed", hint="make setup") from error
    except subprocess.CalledProcessError as error:
        said = error.stderr.decode(errors="replace").strip()
        raise LabError(f"{command[0]} ended with status {error.returncode}: {said}") from error
