"""A disk of each guest's, on which a process of it counts: one block after the other, each fsync'd.

A state that had been thawed twice would be of a guest that has counted less far than its disk; a
write that was lost, of one that has counted further. The host looks: a guest sees its own cache.
"""

from __future__ import annotations

import shlex
from xml.etree.ElementTree import Element, SubElement

from tests.live_kernel.machine import Machine

_FOLDER = "/var/lib/libvirt/images"
_MIB, _BLOCK = 16, 512
#: How far it has counted is in RAM, too; ``{nap_s}`` is between two blocks.
COUNT = f"""( nap={{nap_s}}; n=0
while :; do n=$((n+1))
printf '%-{_BLOCK - 1}s\\n' $n | dd of=/dev/vda bs={_BLOCK} seek=$n conv=notrunc,fsync 2>/dev/null
echo $n >/counted.new; mv /counted.new /counted; sleep $nap
done ) >/dev/null 2>&1 </dev/null &
while [ ! -e /counted ]; do sleep 0.1; done"""
COUNTED = "cat /counted"
#: How far the disk has it; every block up to there is its own.
_READ = f"""
import sys
with open(sys.argv[1], "rb") as file:
    blocks = iter(lambda: file.read({_BLOCK}), b"")
    found = [int(one) if one.strip(b"\\0") else 0 for one in blocks]
last = max(found)
assert found[1 : last + 1] == list(range(1, last + 1)), found[: last + 1]
print(last)
"""


def give(domain: Element) -> None:
    """Have a guest that is still to be started have an empty disk."""
    path = _path(domain.findtext("name", ""))
    with open(path, "wb") as file:
        file.truncate(_MIB << 20)
    devices = domain.find("devices")
    assert devices is not None
    disk = SubElement(devices, "disk", type="file", device="disk")
    SubElement(disk, "driver", name="qemu", type="raw")
    SubElement(disk, "source", file=path)
    SubElement(disk, "target", dev="vda", bus="virtio")


def counted(host: Machine, guest: str) -> int:
    """How far the disk of that guest has it. Raises SystemExit if a block is not there."""
    return int(host.sh(shlex.join(["python3", "-c", _READ, _path(guest)])))


def judged(before: int, in_ram: int, after: int) -> str:
    """What a disk was like before and after its guest was asked, beside the guest's own count.

    The guest writes first and then has it in its RAM, so its disk may be one ahead.
    """
    if before <= in_ram + 1 and in_ram <= after:
        return "disk: OK"
    return f"disk: {before}, RAM: {in_ram}, disk: {after}"


def _path(guest: str) -> str:
    return f"{_FOLDER}/counted-{guest}.img"
