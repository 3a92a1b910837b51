"""What a guest tells about the machine that it is: its UUID, its MACs, where it was reached."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass

#: Lines for the script of :mod:`harness.guest.facts`; ``say`` tells a file's first line. Network
#: devices without a ``device`` are bridges and tunnels, whose MACs are made up.
COLLECT = """
for file in /sys/class/dmi/id/product_uuid /proc/device-tree/vm,uuid; do say machine "$file"; done
for nic in /sys/class/net/*; do
    [ -e "$nic/device" ] || continue
    say mac "$nic/address"
    say mac "$nic/bonding_slave/perm_hwaddr"
done
tell ssh "$SSH_CONNECTION"
"""
#: What firmware tells that was given no UUID.
_NO_UUID = frozenset({"", "0" * 32, "f" * 32})
#: What QEMU gives an interface without a configured MAC: many guests may have it.
DEFAULT_MAC = "52:54:00:12:34:56"


@dataclass(frozen=True)
class Machine:
    """What a guest tells about the machine that it is; data, as everything that a guest says."""

    uuid: str | None = None
    """By its firmware, lower case; None: this user may not read it, or there is none."""
    macs: frozenset[str] = frozenset()
    """Of its network devices, lower case."""
    ssh_address: str | None = None
    """Its own address at which the SSH connection arrived, as sshd tells it; where the guest agent
    is the way in, one of a network device that has a MAC of its description."""


def parse(pairs: Iterable[tuple[str, str]]) -> Machine:
    """Return what the lines of ``SCRIPT`` said."""
    uuid: str | None = None
    address: str | None = None
    macs: set[str] = set()
    for key, value in pairs:
        if key == "machine":
            uuid = uuid or known_uuid(value)
        elif key == "mac":
            macs.add(value.strip().lower())
        elif key == "ssh":
            address = next(iter(value.split()[2:3]), None)
    return Machine(uuid, frozenset(macs - {"", DEFAULT_MAC}), address)


def known_uuid(told: str | None) -> str | None:
    """Return a UUID that firmware told, lower case; None where it tells none."""
    uuid = (told or "").strip("\0 \t").lower()
    return None if uuid.replace("-", "") in _NO_UUID else uuid


def is_uuid(told: str, uuid: str) -> bool:
    """Return True if firmware that tells ``told`` was given ``uuid``.

    SMBIOS before 2.6 had the first three fields in the other byte order, and some firmware still
    has; a kernel tells what it finds.
    """
    said, given = told.replace("-", "").lower(), uuid.replace("-", "").lower()
    return given in (said, _swapped(said))


def _swapped(digits: str) -> str:
    fields = (digits[:8], digits[8:12], digits[12:16])
    turned = (
        "".join(field[at : at + 2] for at in range(len(field) - 2, -1, -2)) for field in fields
    )
    return "".join(turned) + digits[16:]


def same_address(one: str, other: str) -> bool:
    """Return True if both are the same IP address; a zone, and IPv4 in IPv6, make no difference."""
    try:
        return _plain(one) == _plain(other)
    except ValueError:
        return False


def _plain(address: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    ip = ipaddress.ip_address(address.partition("%")[0])
    return (ip.ipv4_mapped or ip) if isinstance(ip, ipaddress.IPv6Address) else ip
