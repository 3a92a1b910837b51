"""Keeps a TCP session into the guest busy with numbered messages, which come back.

From right before the pause until all clocks are right none is sent, and none is under way: a guest
that is resumed with an answer to give gives it while the others wait for their resumes. That the
session has outlived the pause is shown by the messages after it, which the same process answers.
"""

from __future__ import annotations

import secrets
import socket
import struct
import threading

from harness.checks.probes.direct import direct_address, ip_version
from harness.checks.probes.outside import OUTSIDE
from harness.checks.probes.protocol import Probe, Scene
from harness.checks.tcp_session import TcpSession
from harness.core.errors import HarnessError
from harness.core.timebase import NS_PER_S, Deadline
from harness.guest.protocol import LineStream

INTERVAL_S = 0.2
_CONNECT_S = 2.0
#: How long what is still under way is waited for.
_PATIENCE_S = 15.0
#: A message that the pause catches on its way, all the same.
_ANSWER_S = 3600.0
#: It has to come back before anything is judged.
_GREETING = b"harness\n"
_TOTAL_RETRANS = 8 + 23 * 4  # tcpi_total_retrans in struct tcp_info


class TcpProbe(Probe):
    """A connection of its own where the guest has python3, else a channel of our SSH connection."""

    tells = TcpSession
    part = "echo"

    def __init__(self) -> None:
        self._connection: socket.socket | None = None
        self._channel: LineStream | None = None
        self._stopping = threading.Event()
        self._talking = threading.Event()
        """Whether a message is no burden now."""
        self._talking.set()
        self._thread: threading.Thread | None = None
        self._sent_ns = 0
        self._received = b""
        self._sent = self._answered = self._wrong = 0
        self._broken: str | None = None

    def start(self, scene: Scene, deadline: Deadline) -> None:
        """Connect, and begin to talk. Raises MissingCapability."""
        self._clock = scene.clock
        try:
            self._connection = _connect(scene, deadline)
            OUTSIDE.add(self)
            return
        except (HarnessError, OSError):  # no python3, or a firewall: SSH is a TCP session as well
            if scene.remote.way.access == "agent":  # and a guest agent's channel is none
                raise
            self._channel = scene.remote.stream("exec cat", deadline)
        self._thread = threading.Thread(target=self._talk, name="tcp session", daemon=True)
        self._thread.start()

    def pausing(self) -> None:
        """Nothing is sent from now on."""
        self._talking.clear()

    def stop(self, deadline: Deadline) -> TcpSession:
        """Send again, wait for an answer and for what is under way; then tell."""
        before = self._sent
        self._talking.set()
        OUTSIDE.nudge()
        until = deadline.sooner(_PATIENCE_S)
        while self._judged <= before and not self._broken and not until.expired:
            self._clock.sleep(0.01)  # at least one there and back after the pause
        self._stopping.set()
        while self._sent > self._judged and not self._broken and not until.expired:
            self._clock.sleep(0.005)
        if self._thread is not None:
            self._thread.join(until.remaining_s() + 0.5)
        OUTSIDE.remove(self)
        return TcpSession(
            over="ssh" if self._connection is None else "tcp",
            sent=self._sent,
            answered=self._answered,
            answered_after=max(0, self._answered - before),
            wrong=self._wrong,
            broken=self._broken,
            retransmissions=self._retransmissions(),
        )

    def close(self) -> None:
        """Hang up."""
        self._stopping.set()
        self._talking.set()
        OUTSIDE.remove(self)
        if self._connection is not None:
            self._connection.close()
        if self._channel is not None:
            self._channel.close()

    @property
    def _judged(self) -> int:
        return self._answered + self._wrong

    def fileno(self) -> int:
        """See :class:`Watcher`."""
        assert self._connection is not None
        return self._connection.fileno()

    def due_ns(self) -> int | None:
        """See :class:`Watcher`."""
        sends = self._talking.is_set() and not self._stopping.is_set()
        return self._sent_ns + round(INTERVAL_S * NS_PER_S) if sends else None

    def act(self) -> None:
        """See :class:`Watcher`."""
        assert self._connection is not None
        self._sent_ns = self._clock.monotonic_ns()
        try:
            self._connection.sendall(self._message().encode() + b"\n")
        except OSError as error:
            self._break(error)

    def hear(self) -> None:
        """See :class:`Watcher`."""
        assert self._connection is not None
        try:
            chunk = self._connection.recv(65536)
            if not chunk:
                raise ConnectionResetError("it was closed by the guest")
        except BlockingIOError:
            return
        except OSError as error:
            self._break(error)
            return
        *lines, self._received = (self._received + chunk).split(b"\n")
        for line in lines:
            self._judge(line.decode(errors="replace"))

    def _break(self, error: OSError) -> None:
        if self._broken is None and (not self._stopping.is_set() or self._sent > self._judged):
            self._broken = f"the connection broke: {error.strerror or error}"
        self._stopping.set()
        OUTSIDE.forget(self)

    def _talk(self) -> None:
        """One message at a time over SSH: each is answered before the next is sent."""
        assert self._channel is not None
        try:
            while not self._stopping.is_set():
                message, until = self._message(), Deadline.after(_ANSWER_S, self._clock)
                self._judge(self._channel.ask(message, until)[1])
                self._stopping.wait(INTERVAL_S)
                self._talking.wait()
        except HarnessError as error:
            if not self._stopping.is_set():
                self._broken = str(error)

    def _message(self) -> str:
        number = self._sent
        self._sent += 1
        return f"{number:08d} {'harness' * 8}"

    def _judge(self, line: str) -> None:
        if line == f"{self._answered:08d} {'harness' * 8}":
            self._answered += 1
        else:
            self._wrong += 1

    def _retransmissions(self) -> int | None:
        if self._connection is None:
            return None
        try:
            info = self._connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256)
            return int(struct.unpack_from("=I", info, _TOTAL_RETRANS)[0])
        except (OSError, struct.error):
            return None


def _connect(scene: Scene, deadline: Deadline) -> socket.socket:
    """A connection to the echo in the guest that works. Raises OSError or a HarnessError."""
    address = direct_address(scene)
    token, _, port = scene.echo_ports(secrets.token_hex(8), ip_version(address), deadline)
    wait_s = min(_CONNECT_S, deadline.remaining_s())
    connection = socket.create_connection((address, port), timeout=wait_s)
    try:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.sendall(token.encode() + _GREETING)
        answer = b""
        while len(answer) < len(_GREETING):
            if not (more := connection.recv(len(_GREETING) - len(answer))):
                break
            answer += more
        if answer != _GREETING:
            raise ConnectionRefusedError("what answers is not the echo in the guest")
        connection.setblocking(False)
    except OSError:
        connection.close()
        raise
    return connection
