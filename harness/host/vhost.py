"""What guests' NICs have agreed on with vhost, the part of the host's kernel that serves them.

A guest's driver agrees when it starts, on what QEMU offers it: no more than the vhost of that
kernel has. QEMU refuses a state that has more than it could offer itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from harness.core.errors import HypervisorError

#: What not every vhost has, by virtio's name → the first Linux that has it. The modules of Debian's
#: 6.1.192 and 6.12.95 differ in this, and in nothing else.
SINCE: Mapping[str, str] = {"VIRTIO_F_RING_RESET": "6.2"}
#: As a bit, for a QEMU that has no name for it; 7.2 is one.
_BITS = {"VIRTIO_F_RING_RESET": 40}
_NIC, _SERVED = "virtio-net", "vhost-dev"


def agreed(ask: Callable[..., Any]) -> frozenset[str]:
    """Return which features of :data:`SINCE` NICs that vhost serves have agreed on.

    ``ask`` is the monitor of their QEMU; of one that cannot tell, before 7.2, nothing is known.
    """
    found: set[str] = set()
    try:
        for device in ask("x-query-virtio"):
            if device["name"] == _NIC:
                said = ask("x-query-virtio-status", path=device["path"])
                if _SERVED in said:
                    found.update(_named(said["guest-features"]))
    except HypervisorError:
        return frozenset()
    return frozenset(found)


def _named(features: Mapping[str, Any]) -> Iterator[str]:
    """``NAME: what it is``, in lists; and as a number what has no name."""
    told = {
        line.partition(":")[0]
        for lines in features.values()
        if isinstance(lines, list)
        for line in lines
    }
    rest = sum(bits for bits in features.values() if isinstance(bits, int))
    for name in SINCE:
        if name in told or rest >> _BITS[name] & 1:
            yield name
