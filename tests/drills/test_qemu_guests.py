"""QEMU is replaced under guests as people have them: many devices, NUMA nodes, UEFI, a TPM.

Requires: the session's lab, whose RAM folder is in memory. The second QEMU is that of
``scripts/second-qemu``; where it is not there, guests are parked and come back in the same one.
Leaves behind: nothing.
"""

from __future__ import annotations

import json
import socket
from xml.etree import ElementTree

import pytest

from harness.lab.specs import GuestSpec
from harness.testing.required import required
from tests.drills.rich_guests import DATA, NODE_MIB, can_efi_with_tpm, efi_with_tpm, rich
from tests.drills.switch import virsh
from tests.residents import Residents, residents, second_qemu

CHECKS = ["same-boot", "same-process", "libvirt-events", "qemu-version", "ram-inode"]
#: Its guests are the largest of all, and the first test waits for their boot.
pytestmark = pytest.mark.timeout(600)

#: A disk with a file system, a log that is synced, and something read from the disk again.
_USE_DISK = """mkfs.ext4 -q /dev/vdb && mkdir -p /mnt/data && mount /dev/vdb /mnt/data
dd if=/dev/urandom of=/mnt/data/blob bs=1M count=4 2>/dev/null
sha256sum /mnt/data/blob >/root/data.sum"""
_READ_DISK = """sync; echo 3 >/proc/sys/vm/drop_caches; sha256sum -c /root/data.sum
date >/mnt/data/later && sync /mnt/data/later
dmesg | grep -ciE 'i/o error|blocked for|stall|corrupt' || true"""
#: Some have no driver in the guest; they have a state all the same.
_SEEN = """ls /sys/devices/system/node | grep -c '^node'; cat /sys/bus/pci/devices/*/device
ls /sys/class/net /sys/class/virtio-ports; cat /proc/partitions"""


@pytest.fixture(scope="module")
def there(lab, libvirt, tmp_path_factory):
    """A rich guest, and one with UEFI and a TPM where this machine can."""
    specs = [GuestSpec("res-rich", "debian", update_domain="0", resident=True)]
    changes = {"res-rich": rich}
    missing = can_efi_with_tpm()
    if not missing:
        specs.append(GuestSpec("res-efi", "tiny", "0", memory_mib=256, resident=True))
        changes["res-efi"] = efi_with_tpm
    elif required("guest"):
        pytest.fail(f"{missing} is not installed")
    folder = tmp_path_factory.mktemp("rich")
    with residents(folder, libvirt, specs=specs, changes=changes) as found:
        found.ssh("res-rich", _USE_DISK)
        yield found
    DATA.unlink(missing_ok=True)


def hop(there: Residents, harness, name: str, **update) -> dict:
    """A whole maintenance of one guest; its timers and clock are judged elsewhere."""
    config = there.configured(**update)
    with open(config, "a") as file:
        file.write(f"[checks]\nenable = {json.dumps(CHECKS)}\n")
    done = harness("run", name, "-c", config, "--json")
    assert done.code == 0, done.err + done.out
    return done.record


def changed(record: dict) -> list[str]:
    """What the record says is different about the guest since."""
    (guest,) = record["guests"]
    return guest["facts"].get("qemu_changes", "").split("; ")


def there_and_back(there: Residents, harness, name: str) -> list[str]:
    """Into the other QEMU and back; each piece of its RAM stays where it is.

    Returns what is said to be different after the first.
    """
    first = there.look(name)
    other = second_qemu()
    told = changed(hop(there, harness, name, **other))
    second = there.look(name)
    assert ("tree" not in other) or second.version != first.version
    there.assert_same(name)
    hop(there, harness, name, emulator="/usr/bin/qemu-system-x86_64", again=True)
    third = there.look(name)
    assert third.version == first.version
    assert len({look.process for look in (first, second, third)}) == 3
    there.assert_same(name)
    there.assert_tidy()
    for look in (second, third):
        assert [b.identity for b in look.backings] == [b.identity for b in first.backings]
    return told


def watch_display(name: str) -> socket.socket:
    """A viewer of its VNC display that is connected."""
    address, _, number = virsh("vncdisplay", name).strip().rpartition(":")
    viewer = socket.create_connection((address, 5900 + int(number)), timeout=20)
    greeting = viewer.recv(12)
    assert greeting.startswith(b"RFB "), greeting
    return viewer


def test_a_guest_with_many_devices_and_two_numa_nodes(there, harness):
    """All devices are there still, the disk's content too, and nothing was said of errors."""
    seen = there.ssh("res-rich", _SEEN)
    assert seen.splitlines()[0] == "2"
    assert [b.path.rsplit("/")[-1] for b in there.look("res-rich").backings] == [
        "ram-node0",
        "ram-node1",
    ]
    viewer = watch_display("res-rich")
    before = ElementTree.fromstring(virsh("dumpxml", "res-rich"))
    told = there_and_back(there, harness, "res-rich")
    assert viewer.recv(1) == b"", "the viewer was cut off, as is said"
    viewer.close()
    assert "viewers of its vnc display were cut off" in told
    cut = [line for line in told if line.startswith("viewers of its ") and "display" not in line]
    paths = {one.get("path", "") for one in before.iterfind("devices/*/source")}
    assert len(cut) == len({path for path in paths if path.startswith("/dev/pts/")}) > 0
    (generation,) = (line for line in told if "new VM generation id" in line)
    assert f": {before.findtext('genid')} → " in generation
    assert [line for line in told if line.startswith("libvirt says: tainted")], told
    assert there.ssh("res-rich", _SEEN) == seen
    assert there.ssh("res-rich", _READ_DISK).splitlines() == ["/mnt/data/blob: OK", "0"]


def test_a_guest_with_uefi_and_a_tpm(there, harness):
    """Its variables stay its own, and so does its TPM."""
    if "res-efi" not in there.guests:
        pytest.skip(f"{can_efi_with_tpm()} is not installed")
    there_and_back(there, harness, "res-efi")


def test_the_nodes_are_as_large_as_they_were_asked_for(there):
    """So that the test of the nodes is one of two files."""
    sizes = there.ssh("res-rich", "grep -h MemTotal /sys/devices/system/node/node*/meminfo")
    kib = [int(line.split()[-2]) for line in sizes.splitlines()]
    assert all(NODE_MIB * 1024 * 0.6 < one <= NODE_MIB * 1024 for one in kib)
