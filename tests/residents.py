"""Guests whose QEMU can be replaced, in a lab of their own; each has something to lose in RAM."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

from harness.core.paths import cache_dir
from harness.core.timebase import Deadline
from harness.host.driver import LibvirtHypervisor
from harness.host.parking import QemuLook
from harness.lab import guests as labs
from harness.lab.domain import domain_xml
from harness.lab.specs import GuestSpec
from tests.clocks import set_right

#: Where QEMU's own user can start the second QEMU.
TREE = Path("/var/lib/libvirt/second-qemu")
KEEP = "harness-keep"
#: The QEMU that is installed.
EMULATOR = Path("/usr/bin/qemu-system-x86_64")
#: Room for the sessions of many runs that were killed, beside what is planted.
MEMORY_MIB = 256
#: A blob and a process that only live in the guest's RAM; ``{nap_s}`` is between its steps.
PLANT = """dd if=/dev/urandom of=/blob bs=1M count=2 2>/dev/null && sha256sum /blob >/blob.sum
( read nonce </proc/sys/kernel/random/uuid; n=0
while :; do n=$((n+1)); echo "$nonce $n" >/canary.new; mv /canary.new /canary; sleep {nap_s}
done ) >/dev/null 2>&1 </dev/null &
while [ ! -e /canary ]; do sleep 0.1; done"""
_NAP_S = 0.1
TELL = "cat /proc/sys/kernel/random/boot_id /canary; sha256sum -c /blob.sum 2>&1"


def second_qemu() -> dict[str, str | bool]:
    """Return what ``[update]`` says of a hop to the second QEMU; if there is none, to the same."""
    cached = cache_dir() / "second-qemu"
    if not (cached / "complete").exists():
        return {"again": True}
    if not TREE.exists():
        shutil.copytree(cached, TREE, symlinks=True)
    return {"tree": str(TREE)}


@dataclass
class Residents:
    """A lab that is up, and what its guests had in RAM when they were planted."""

    folder: Path
    guests: dict[str, str]
    """Name → UUID."""
    addresses: dict[str, str]
    config: Path
    libvirt: LibvirtHypervisor
    planted: dict[str, tuple[str, str]] = field(default_factory=dict)
    """Name → (boot id, nonce of the process)."""

    def ssh(self, name: str, command: str) -> str:
        lab = self.folder / "lab"
        words = ["ssh", "-i", str(lab / "id_ed25519"), "-o", "IdentitiesOnly=yes"]
        words += ["-o", f"UserKnownHostsFile={lab / 'known_hosts'}", "-o", "LogLevel=ERROR"]
        words += ["-o", "ConnectTimeout=10", f"root@{self.addresses[name]}", command]
        done = subprocess.run(words, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, f"{name}: {done.stderr}"
        return done.stdout

    def plant(self) -> None:
        for name in self.guests:
            self.ssh(name, PLANT.format(nap_s=_NAP_S))
            self.planted[name] = self._told(name)[:2]

    def _told(self, name: str) -> tuple[str, str, str]:
        boot, canary, blob = self.ssh(name, TELL).splitlines()
        return boot, canary.split()[0], blob

    def assert_same(self, name: str) -> None:
        """The same boot, the same process, and every byte of the blob."""
        boot, nonce, blob = self._told(name)
        assert (boot, nonce) == self.planted[name]
        assert blob == "/blob: OK"

    def look(self, name: str) -> QemuLook:
        return self.libvirt.parking.look(self.guests[name], Deadline.after(20))

    def assert_tidy(self) -> None:
        """Nothing is kept or on offer; nobody's RAM is left out of a save."""
        looks = [self.look(name) for name in self.guests]
        ram = Path(looks[0].backings[0].path).parents[1]
        mine = {f"{look.number}-{look.name}" for look in looks}
        found = {one.name for one in ram.iterdir() if one.name.rpartition("-")[0] != ""}
        others = {name for name in found if not name.split("-", 1)[1].startswith("res-")}
        assert found - others == mine
        assert not (ram / KEEP).exists()
        for look in looks:
            assert not look.capable
            assert look.backings[0].links == 1

    def configured(
        self, before: Mapping[str, str | list[str]] | None = None, **update: str | bool
    ) -> str:
        """A configuration file with these guests, and an update of kind qemu.

        ``before``: another update, which comes before that.
        """
        text = self.config.read_text()
        for one in (before, {"kind": "qemu", **update}):
            if one is not None:
                lines = [f"{key} = {json.dumps(value)}" for key, value in one.items()]
                text += "\n[[update]]\n" + "\n".join(lines) + "\n"
        file = self.config.with_name("qemu.toml")
        file.write_text(text)
        return str(file)


@contextmanager
def residents(
    folder: Path,
    libvirt: LibvirtHypervisor,
    count: int = 2,
    *,
    resident: bool = True,
    specs: Sequence[GuestSpec] = (),
    changes: Mapping[str, Callable[[Element], None]] | None = None,
) -> Iterator[Residents]:
    """Guests ``res-1`` … in update domain 0, planted; removed in the end.

    ``resident``: their QEMU can be replaced as they are. ``specs``: these guests instead.
    ``changes``: name → what is done to a guest's description before it boots.
    """
    with (
        mock.patch.dict(os.environ, {"HARNESS_STATE_DIR": str(folder)}),
        mock.patch.object(labs, "domain_xml", partial(changed, changes or {})),
    ):
        wanted = specs or [
            GuestSpec(
                f"res-{n + 1}", "tiny", update_domain="0", memory_mib=MEMORY_MIB, resident=resident
            )
            for n in range(count)
        ]
        state = labs.up(wanted, deadline=Deadline.after(180), progress=print)
        set_right([guest.name for guest in state.guests], state.config_file)
        there = Residents(
            folder,
            {guest.name: guest.uuid for guest in state.guests},
            {guest.name: guest.address for guest in state.guests},
            state.config_file,
            libvirt,
        )
    try:
        there.plant()
        yield there
    finally:
        with mock.patch.dict(os.environ, {"HARNESS_STATE_DIR": str(folder)}):
            labs.down(print)


def changed(changes: Mapping[str, Callable[[Element], None]], spec: GuestSpec, *rest: Any) -> str:
    """The lab's description of a guest, with what a test wants of it."""
    domain = ElementTree.fromstring(domain_xml(spec, *rest))
    if change := changes.get(spec.name):
        change(domain)
    return ElementTree.tostring(domain, encoding="unicode")


def wrapper(folder: Path, body: str) -> Path:
    """A program that treats only guests badly: libvirt probes it without one."""
    file = folder / "qemu-system-x86_64"
    probed = 'case "$*" in *guest=*) ;; *) exec $real "$@";; esac'
    file.write_text(f"#!/bin/bash\nreal={EMULATOR}\n{probed}\n{body}\n")
    file.chmod(0o755)
    return file
