"""A way from this machine to an emulated host and its guests, as a neighbour of theirs has.

A tap of this machine's that is the host's second network card, with an address at each end. What
the host needs for it is on its disk: it comes back with each boot, whatever the kernel.
"""

from __future__ import annotations

import os
import random
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

#: Of the network that is set aside for tests of networks (RFC 2544).
_NETWORK = "198.18.{}.{}"
_CARD = """[Match]
MACAddress={mac}
[Network]
Address={there}/30
LinkLocalAddressing=no
"""
#: libvirt's rules come before those of a firewall; the guests know no way but to their host.
_UNIT = """[Unit]
Description=a way from the machine outside to the guests
After=network.target libvirtd.service
[Service]
Type=oneshot
ExecStart=sysctl -q net.ipv4.ip_forward=1
ExecStart=iptables -w -I FORWARD -s {here} -j ACCEPT
ExecStart=iptables -w -I FORWARD -d {here} -j ACCEPT
ExecStart=iptables -w -t nat -I POSTROUTING -s {here} -j MASQUERADE
[Install]
WantedBy=multi-user.target
"""
_SET_UP = """set -e
cat >/etc/systemd/network/05-outside.network <<'END'
{card}END
cat >/etc/systemd/system/test-way.service <<'END'
{unit}END
systemctl daemon-reload
systemctl enable --now test-way.service
networkctl reload
until ip -4 address | grep -q {there}/30; do sleep 0.2; done
"""


@dataclass(frozen=True)
class Way:
    """The tap, and the addresses at its ends."""

    tap: str
    here: str
    there: str
    mac: str

    @property
    def words(self) -> tuple[str, ...]:
        """What QEMU is given."""
        tap = f"tap,id=outside,ifname={self.tap},script=no,downscript=no"
        return ("-netdev", tap, "-device", f"virtio-net-pci,netdev=outside,romfile=,mac={self.mac}")

    def set_up(self) -> str:
        """What the host is told once, as shell: its address, and to forward what is for guests."""
        card = _CARD.format(mac=self.mac, there=self.there)
        unit = _UNIT.format(here=self.here)
        return _SET_UP.format(card=card, unit=unit, there=self.there)

    def lead_to(self, addresses: Sequence[str]) -> None:
        """Have this machine know that the guests are there; until the tap goes."""
        for one in addresses:
            _ip("route", "replace", f"{one}/32", "via", self.there, "dev", self.tap)


@contextmanager
def way() -> Iterator[Way]:
    """For a ``with``, have there be one."""
    third, fourth = random.randrange(256), 4 * random.randrange(64)
    tap = f"hk{os.getpid()}"
    found = Way(
        tap,
        _NETWORK.format(third, fourth + 1),
        _NETWORK.format(third, fourth + 2),
        f"52:54:00:12:{third:02x}:{fourth:02x}",
    )
    _ip("tuntap", "add", "dev", tap, "mode", "tap")
    try:
        _ip("address", "add", f"{found.here}/30", "dev", tap)
        _ip("link", "set", tap, "up")
        yield found
    finally:
        _ip("link", "delete", tap)


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)
