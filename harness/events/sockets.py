"""Where the server listens: an address of the guests' network, and on no other interface.

Linux accepts a packet for any of its addresses on any interface. So each socket is bound to the
device that carries the address: no machine reaches the server from another network, whatever they
route to us.
"""

from __future__ import annotations

import errno
import ipaddress
import json
import socket
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path

from harness.core.errors import EventError, UsageError
from harness.core.pasteable import command
from harness.core.timebase import Deadline, NotYet, wait_for

_BACKLOG = 2048
_IP_S = 10.0
_BIND_S = 10.0


def carriers(address: str) -> Sequence[str]:
    """The interfaces of this host that carry ``address``; none where that cannot be found out."""
    show = ["ip", "-json", "-4", "address", "show", "to", f"{address}/32"]
    try:
        done = subprocess.run(show, capture_output=True, timeout=_IP_S, check=True)
    except (OSError, subprocess.SubprocessError):
        return []
    return [found["ifname"] for found in json.loads(done.stdout or b"[]") if found.get("ifname")]


def listen(address: str, port: int, *, anywhere: bool = False) -> list[socket.socket]:
    """Listening sockets, one for each device that carries ``address``.

    ``anywhere``: a person takes it upon themselves that others than guests can reach it. Raises
    UsageError for an address that only they can want, EventError if it cannot be listened on.
    """
    try:
        ip = ipaddress.IPv4Address(address)
    except ValueError as error:
        raise UsageError(f"--address: {address!r} is no IPv4 address") from error
    if anywhere:
        return [_bound(address, port, None)]
    if ip.is_loopback:
        return [_bound(address, port, "lo")]
    devices = carriers(address)
    if ip.is_unspecified or any(reaches_outside(device) for device in devices):
        raise UsageError(
            f"{address} can be reached by others than guests",
            hint="take an address of the guests' own network, or say --anywhere",
        )
    if not devices:
        raise EventError(f"no interface of this host carries {address}", hint=how_to_add(address))
    return [_bound(address, port, device) for device in devices]


def how_to_add(address: str, bridges: Iterable[str] = ()) -> str:
    """Return commands that put ``address`` onto ``bridges``, to be pasted; it needs one at least.

    None: it is not known which bridge guests are on.
    """
    known = [command("ip", "address", "add", f"{address}/32", "dev", one) for one in bridges]
    add = known or [f"ip address add {address}/32 dev BRIDGE, with the bridge of your guests"]
    return f"{'; '.join(add)} (until its network restarts; for good: docs/how-to/events.md)"


def bridges_of(taps: Iterable[str], sys: Path = Path("/sys")) -> list[str]:
    """Return the bridges that these interfaces of the host are ports of, each once."""
    masters = (sys / "class/net" / tap / "master" for tap in taps if tap)
    return sorted({link.resolve().name for link in masters if link.is_symlink()})


def reaches_outside(device: str, sys: Path = Path("/sys")) -> bool:
    """Whether more than guests can be behind an interface: it is no bridge, or one with a card."""
    ports = sys / "class/net" / device / "brif"
    if not ports.is_dir():
        return True
    return any((sys / "class/net" / port.name / "device").exists() for port in ports.iterdir())


def _bound(address: str, port: int, device: str | None) -> socket.socket:
    # Named as TCP, because asyncio sends small answers at once (TCP_NODELAY) on such sockets only.
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if device is not None:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device.encode())
        _bind(listening, address, port)
        listening.listen(_BACKLOG)
        listening.setblocking(False)
    except OSError as error:
        listening.close()
        raise EventError(
            f"cannot listen on {address}:{port}: {error.strerror}",
            hint="is another server there? Ports below 1024 are for root",
        ) from error
    return listening


def _bind(listening: socket.socket, address: str, port: int) -> None:
    """A server before us that takes its leave needs a moment."""

    def attempt() -> None:
        try:
            listening.bind((address, port))
        except OSError as error:
            if error.errno != errno.EADDRINUSE or deadline.expired:
                raise
            raise NotYet(str(error)) from error

    deadline = Deadline.after(_BIND_S)
    wait_for(attempt, what="binding", deadline=Deadline.after(2 * _BIND_S))
