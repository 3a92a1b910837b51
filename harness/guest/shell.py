"""An SSH connection to a guest (:class:`harness.guest.protocol.GuestShell`), by paramiko.

Built on ``paramiko.Transport`` rather than ``SSHClient``, because every step must end by one
deadline even when the peer is frozen, and no credential may leave before the host key is checked.
"""

from __future__ import annotations

import ipaddress
import logging
import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import paramiko

from harness.core.errors import CommandFailed, ConfigError, HarnessError, ProbeError
from harness.core.fanout import fan_out
from harness.core.timebase import SYSTEM_CLOCK, Clock, Deadline
from harness.guest.access import SshSettings
from harness.guest.hostkeys import check, known_keys, prefer_known
from harness.guest.protocol import Completed, Way
from harness.guest.translate import translated

#: More than any probe of ours prints; a guest that floods us is not listened to.
OUTPUT_LIMIT_BYTES = 8 * 1024 * 1024
_CHUNK_BYTES = 65536
_CLOSE_S = 2.0
#: paramiko tells the channels that the connection broke right before it admits so itself.
_SETTLE_S = 0.1
_DEFAULT_KEYS = ("id_ed25519", "id_ecdsa", "id_rsa")

# It reports every refused key and dropped connection; we raise what matters.
logging.getLogger("paramiko").setLevel(logging.CRITICAL)


class SshShell:
    """One open, authenticated connection; safe to use from one thread at a time."""

    def __init__(
        self,
        guest: str,
        transport: paramiko.Transport,
        way: Way,
        jump: SshShell | None = None,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self.guest = guest
        self.way = way
        self._transport = transport
        self._jump = jump
        self._clock = clock

    @classmethod
    def open(
        cls,
        guest: str,
        address: str,
        settings: SshSettings,
        deadline: Deadline,
        *,
        jumps: tuple[str, ...] = (),
    ) -> SshShell:
        """Connect, check the host key, log in. ``jumps``: the hosts that need this one to jump.

        Raises ShellUnreachable, HostKeyRejected, ConfigError or DeadlineExpired.
        """
        deadline = deadline.sooner(settings.connect_timeout_s)
        jump = _open_jump(guest, settings, deadline, jumps)
        transport: paramiko.Transport | None = None
        try:
            known = known_keys(settings)
            doing = f"connecting to {address} port {settings.port}"
            with translated(guest, doing, deadline):
                transport = _connect(address, settings.port, jump, deadline)
                prefer_known(transport, known)
                transport.start_client(timeout=deadline.timeout_s())
                key = transport.get_remote_server_key()
                way = _way(address, settings.port, jump, transport, key.fingerprint)
            check(guest, address, key, known, settings)
            with translated(guest, f"logging in as {settings.user}", deadline):
                _authenticate(transport, settings, deadline)
        except HarnessError:
            _close(transport)
            if jump is not None:
                jump.close()
            raise
        return cls(guest, transport, way, jump, deadline.clock)

    def run(self, command: str, deadline: Deadline, *, check: bool = True) -> Completed:
        """Run a command and collect what it prints."""
        with translated(self.guest, "running a command", deadline):
            channel = self._transport.open_session(timeout=deadline.timeout_s())
            try:
                _start(self.guest, channel, command, deadline)
                channel.shutdown_write()
                completed = _collect(channel, deadline)
            finally:
                channel.close()
        if check and completed.returncode != 0:
            said = (completed.stderr or completed.stdout).strip().splitlines()[-1:]
            raise CommandFailed(
                f"a command ended with status {completed.returncode}: {' '.join(said)}",
                returncode=completed.returncode,
                stdout=completed.stdout,
                stderr=completed.stderr,
                guest=self.guest,
            )
        return completed

    def stream(self, command: str, deadline: Deadline) -> SshLineStream:
        """Start a long-lived line server."""
        with translated(self.guest, "starting a remote loop", deadline):
            channel = self._transport.open_session(timeout=deadline.timeout_s())
            try:
                _start(self.guest, channel, command, deadline)
            except BaseException:
                channel.close()
                raise
        return SshLineStream(self.guest, channel, self._clock)

    def close(self) -> None:
        """Close the connection, and that of the jump host."""
        _close(self._transport)
        if self._jump is not None:
            self._jump.close()


class SshLineStream:
    """A remote process that answers a line to a line (:class:`LineStream`)."""

    def __init__(self, guest: str, channel: paramiko.Channel, clock: Clock) -> None:
        self._guest = guest
        self._channel = channel
        self._clock = clock
        self._received = b""

    def ask(self, line: str, deadline: Deadline) -> tuple[int, str, int]:
        """Send a line, wait for one line."""
        data = line.encode() + b"\n"
        with translated(self._guest, "asking the remote loop", deadline):
            self._channel.settimeout(deadline.timeout_s())
            sent_ns = self._clock.monotonic_ns()
            try:
                self._channel.sendall(data)
            except OSError:
                if not self._channel.closed:
                    raise
                # else it has ended: its last words are still to be read
            answer, received_ns = self._line(deadline)
        return sent_ns, answer.decode(errors="replace"), received_ns

    def listen(self, deadline: Deadline) -> tuple[str, int]:
        """Wait for one line without asking: an answer that came late."""
        with translated(self._guest, "listening to the remote loop", deadline):
            answer, received_ns = self._line(deadline)
        return answer.decode(errors="replace"), received_ns

    def close(self) -> None:
        """End the process by closing its input."""
        with suppress(OSError, EOFError, paramiko.SSHException):
            self._channel.close()

    def _line(self, deadline: Deadline) -> tuple[bytes, int]:
        while b"\n" not in self._received:
            self._channel.settimeout(deadline.timeout_s())
            chunk = self._channel.recv(_CHUNK_BYTES)
            received_ns = self._clock.monotonic_ns()
            if not chunk:
                _check_connected(self._channel)
                raise ProbeError(f"the remote loop ended: {self._last_words()}", guest=self._guest)
            self._received += chunk
            if len(self._received) > OUTPUT_LIMIT_BYTES:
                raise ProbeError("the remote loop floods us", guest=self._guest)
        else:
            received_ns = self._clock.monotonic_ns()
        line, _, self._received = self._received.partition(b"\n")
        return line, received_ns

    def _last_words(self) -> str:
        if not self._channel.recv_stderr_ready():
            return "without a word"
        words = self._channel.recv_stderr(_CHUNK_BYTES).decode(errors="replace")
        return (words.strip().splitlines() or ["without a word"])[-1]


def _connect(
    address: str, port: int, jump: SshShell | None, deadline: Deadline
) -> paramiko.Transport:
    if jump is not None:
        channel = jump._transport.open_channel(
            "direct-tcpip", (address, port), ("127.0.0.1", 0), timeout=deadline.timeout_s()
        )
        transport = paramiko.Transport(channel)
    else:
        connection = socket.create_connection((address, port), timeout=deadline.timeout_s())
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        transport = paramiko.Transport(connection)
    transport.daemon = True
    for name in ("banner_timeout", "handshake_timeout", "auth_timeout", "channel_timeout"):
        setattr(transport, name, deadline.timeout_s())
    return transport


def _way(
    address: str, port: int, jump: SshShell | None, transport: paramiko.Transport, host_key: str
) -> Way:
    """How the peer was reached; a connection to this machine has one address at both ends."""
    if jump is not None:
        through = (*jump.way.through, jump.way.address)
        return Way(address, port, through, host_key=host_key)
    connection = transport.sock
    assert isinstance(connection, socket.socket)
    peer, own = connection.getpeername()[0], connection.getsockname()[0]
    is_here = peer == own or ipaddress.ip_address(peer.partition("%")[0]).is_loopback
    return Way(address, port, peer=peer, is_here=is_here, host_key=host_key)


def _open_jump(
    guest: str, settings: SshSettings, deadline: Deadline, jumps: tuple[str, ...]
) -> SshShell | None:
    """The last host of ``ProxyJump``, reached through those before it."""
    if not settings.proxy_jump or settings.proxy_jump.lower() == "none":
        return None
    *before, last = settings.proxy_jump.split(",")
    user, _, host_and_port = last.strip().rpartition("@")
    host, _, port = host_and_port.partition(":")
    if host_and_port in jumps:
        raise ConfigError(f"ProxyJump: {host} needs {host} to jump", guest=guest)
    if port and not port.isdecimal():
        raise ConfigError(f"ProxyJump: {port!r} is no port", guest=guest)
    from harness.core.settings import (
        SshSection,  # the defaults; a jump host has no section of its own
    )

    address = SshSettings.configured_address(host) or host
    resolved = SshSettings.resolve(host, address, SshSection(), SshSection())
    hop = SshSettings(
        user=user or resolved.user,
        port=int(port) if port else resolved.port,
        identity_files=resolved.identity_files or settings.identity_files,
        known_hosts=(*settings.known_hosts, *resolved.known_hosts),
        known_names=resolved.known_names,
        proxy_jump=",".join(before) or resolved.proxy_jump,
        connect_timeout_s=settings.connect_timeout_s,
    )
    name = f"{guest} (jump host {host})"
    return SshShell.open(name, address, hop, deadline, jumps=(*jumps, host_and_port))


def _authenticate(transport: paramiko.Transport, settings: SshSettings, deadline: Deadline) -> None:
    """Offer keys one by one until one is taken. Raises paramiko.AuthenticationException."""
    refused: paramiko.AuthenticationException | None = None
    for key in _keys(settings, deadline):
        transport.auth_timeout = deadline.timeout_s()
        try:
            transport.auth_publickey(settings.user, key)
        except paramiko.AuthenticationException as error:
            refused = error
            if not transport.is_active():
                break  # the server has had enough of us
        if transport.is_authenticated():
            return
    raise refused or paramiko.AuthenticationException("no key to offer")


def _keys(settings: SshSettings, deadline: Deadline) -> Iterator[paramiko.PKey]:
    home = Path("~/.ssh").expanduser()
    for path in settings.identity_files:
        yield from _load(path)
    what = "asking the SSH agent"  # it may hang, as one forwarded over a dead connection does
    agent = fan_out({what: paramiko.Agent}, deadline, what=what)[what].get()
    try:
        yield from agent.get_keys()
    finally:
        agent.close()
    if not settings.identity_files:
        for name in _DEFAULT_KEYS:
            yield from _load(home / name)


def _load(path: Path) -> Iterator[paramiko.PKey]:
    """The key in a file; one with a passphrase is the agent's business."""
    try:
        key = paramiko.PKey.from_path(path.expanduser())
    except Exception:  # noqa: BLE001  no file, no key, a passphrase, a kind that paramiko lacks, …
        return
    yield key


def _start(guest: str, channel: paramiko.Channel, command: str, deadline: Deadline) -> None:
    """paramiko waits for the server's consent without limit: bounded."""
    call = {guest: lambda: channel.exec_command(command)}
    fan_out(call, deadline, what="starting a command")[guest].get()


def _check_connected(channel: paramiko.Channel) -> None:
    """The end of a channel is the end of a process only while the connection lives."""
    transport = channel.get_transport()
    transport.join(_SETTLE_S)
    if not transport.is_active():
        raise paramiko.SSHException("the connection broke")


def _collect(channel: paramiko.Channel, deadline: Deadline) -> Completed:
    out = bytearray()
    errors = bytearray()
    while True:
        channel.settimeout(deadline.timeout_s())
        chunk = channel.recv(_CHUNK_BYTES)
        while channel.recv_stderr_ready():
            errors += channel.recv_stderr(_CHUNK_BYTES)
        if not chunk:
            break
        out += chunk
        if len(out) + len(errors) > OUTPUT_LIMIT_BYTES:
            raise paramiko.SSHException(f"more than {OUTPUT_LIMIT_BYTES} bytes of output")
    if not channel.status_event.wait(deadline.timeout_s()):
        raise TimeoutError
    if channel.exit_status < 0:
        _check_connected(channel)
    while channel.recv_stderr_ready():
        errors += channel.recv_stderr(_CHUNK_BYTES)
    return Completed(
        channel.exit_status, out.decode(errors="replace"), errors.decode(errors="replace")
    )


def _close(transport: paramiko.Transport | None) -> None:
    """paramiko joins its thread on close, which a frozen peer may hold up: bounded."""
    if transport is not None:
        fan_out({"": transport.close}, Deadline.after(_CLOSE_S), what="closing")
