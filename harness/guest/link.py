"""What an SSH connection runs over: TCP, a channel of a jump host's connection, or a program."""

from __future__ import annotations

import ipaddress
import socket
from contextlib import suppress
from dataclasses import dataclass

from harness.core.timebase import Deadline
from harness.guest.lean_paramiko import paramiko
from harness.guest.protocol import Way
from harness.guest.proxy_command import Proxy
from harness.guest.ssh_settings import SshSettings

_FAMILIES = {"inet": socket.AF_INET, "inet6": socket.AF_INET6}


@dataclass(frozen=True)
class Link:
    """An open way for bytes, and where it leads."""

    stream: socket.socket | paramiko.Channel
    way: Way
    """Without the host key, which is not known yet."""
    proxy: Proxy | None = None

    @property
    def is_loopback(self) -> bool:
        """Whether this machine's loopback is at the other end."""
        return self.way.peer is not None and _is_loopback(self.way.peer)

    def last_words(self) -> str:
        """Return what the program that carries it said last, in parentheses; empty if nothing."""
        said = self.proxy.last_words() if self.proxy is not None else ""
        return f" (ProxyCommand says: {said})" if said else ""

    def end(self) -> None:
        """Have both sides, and a thread that reads from it, see its end; never raises."""
        with suppress(OSError, EOFError, paramiko.SSHException):  # it has ended, or never began
            self.stream.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close it, and end the program that carries it; never raises."""
        self.stream.close()
        if self.proxy is not None:
            self.proxy.close()


def by_tcp(address: str, settings: SshSettings, deadline: Deadline) -> Link:
    """Connect to the first address that answers, with Nagle's algorithm off. Raises OSError."""
    wanted = _FAMILIES.get(settings.address_family, socket.AF_UNSPEC)
    failure: OSError | None = None
    for family, kind, protocol, _, place in socket.getaddrinfo(
        address, settings.port, wanted, socket.SOCK_STREAM
    ):
        connection = socket.socket(family, kind, protocol)
        try:
            connection.settimeout(deadline.timeout_s())
            if settings.bind_address:
                connection.bind((settings.bind_address, 0))
            connection.connect(place)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except OSError as error:
            connection.close()
            failure = error
        else:
            return Link(connection, _way(address, settings.port, connection))
    raise failure or OSError(f"no address for {address}")


def by_jump(
    jump: paramiko.Transport, its_way: Way, address: str, port: int, deadline: Deadline
) -> Link:
    """Open a channel through a jump host. Raises paramiko's exceptions."""
    channel = jump.open_channel(
        "direct-tcpip", (address, port), ("127.0.0.1", 0), timeout=deadline.timeout_s()
    )
    return Link(channel, Way(address, port, (*its_way.through, its_way.address)))


def by_program(guest: str, address: str, settings: SshSettings) -> Link:
    """Start the ProxyCommand. Raises ConfigError where there is no such program."""
    proxy = Proxy(settings.proxy_command, guest)
    return Link(proxy.connection, Way(address, settings.port, ("ProxyCommand",)), proxy)


def _way(address: str, port: int, connection: socket.socket) -> Way:
    """How the peer was reached; a connection to this machine has one address at both ends."""
    peer, own = connection.getpeername()[0], connection.getsockname()[0]
    return Way(address, port, peer=peer, is_here=peer == own or _is_loopback(peer))


def _is_loopback(peer: str) -> bool:
    return ipaddress.ip_address(peer.partition("%")[0]).is_loopback
