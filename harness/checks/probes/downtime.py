"""Asks the guest from outside, and notes when it answers: every 10 ms where that matters.

Every answer is work for the guest, and many emulated guests on few cores have nothing to spare when
they are resumed: the others' resumes wait, and their clocks are corrected. So it asks quickly only
from right before the pause until the guest is paused, and less quickly where many guests are; and
what has had no answer is hardly asked again. One question waits in the pause: its answer tells when
that was over, whatever ended it. From then on a guest of many is left alone until all clocks are
right, and asked once more in the end.
"""

from __future__ import annotations

import secrets
import socket
import struct
from collections.abc import Callable
from contextlib import suppress

from harness.checks.downtime import Downtime
from harness.checks.probes.direct import direct_address, ip_version
from harness.checks.probes.outside import OUTSIDE
from harness.checks.probes.protocol import Probe, Scene
from harness.core.errors import HarnessError, MissingCapability
from harness.core.timebase import NS_PER_S, SYSTEM_CLOCK, Clock, Deadline
from harness.guest.facts import GuestOs

INTERVAL_S = 0.010
#: Or so long for each guest of the update domain: more would take the cores they are paused by.
_EACH_S = 0.001
_IDLE_S = 0.200
#: So many guests are asked on while their clocks are corrected; more are left alone.
_FEW = 8
#: Without an answer to the last one: it is paused, perhaps, and the more surely the longer it says
#: nothing; it is, and the question may be lost.
_UNANSWERED_S, _UNANSWERED_IN_PAUSE_S = 0.050, 5.0
#: A guest that does not answer so many probes, so far apart, before the pause never will.
_TRIES, _TRY_S = 5, 0.2
#: How long an answer is waited for after the pause.
_PATIENCE_S = 5.0
#: Silent for so long, it does not answer any more: what is lost is not made up for later.
_ANSWERS_S = 0.5
_ECHO_REQUEST = {4: 8, 6: 128}
_TIMESTAMPNS = 35  # SO_TIMESTAMPNS: Python has no name for it


class Way:
    """A connected socket, and how a probe is written on it."""

    def __init__(
        self, kind: str, connection: socket.socket, token: bytes, clock: Clock = SYSTEM_CLOCK
    ) -> None:
        self.kind = kind
        self._clock = clock
        with suppress(OSError):
            connection.setsockopt(socket.SOL_SOCKET, _TIMESTAMPNS, 1)
        self._socket = connection
        self._token = token
        self._version = 6 if connection.family == socket.AF_INET6 else 4

    def send(self, number: int) -> None:
        """Send a probe; a full queue, or a guest that is gone, is no answer and no error."""
        data = self._token + struct.pack("!Q", number)
        if self.kind == "icmp":
            head = struct.pack("!BBHHH", _ECHO_REQUEST[self._version], 0, 0, 0x4841, number & 65535)
            summed = _checksum(head + data)
            data = head[:2] + struct.pack("!H", summed) + head[4:] + data
        with suppress(OSError):
            self._socket.send(data, socket.MSG_DONTWAIT)

    def answer_ns(self, wait_s: float) -> int | None:
        """When an answer to this probe came (CLOCK_MONOTONIC); None: not within ``wait_s``.

        By the kernel's stamp, so that it does not matter how late we come to read it.
        """
        try:
            self._socket.settimeout(max(wait_s, 1e-4))
            data, extra, _, _ = self._socket.recvmsg(2048, 64)
        except OSError:
            return None
        at = data.find(self._token)
        # An echo request that we see ourselves, on loopback, is no answer.
        if at < 0 or (self.kind == "icmp" and data[at - 8] in _ECHO_REQUEST.values()):
            return None
        now_ns = self._clock.monotonic_ns()
        stamps = [value for _, kind, value in extra if kind == _TIMESTAMPNS and len(value) == 16]
        if not stamps:
            return now_ns
        seconds, nanoseconds = struct.unpack("=qq", stamps[0])
        age_ns = self._clock.realtime_ns() - (int(seconds) * NS_PER_S + int(nanoseconds))
        return now_ns - max(age_ns, 0)

    def fileno(self) -> int:
        """Return the descriptor on which answers come."""
        return self._socket.fileno()

    def works(self) -> bool:
        """Whether the guest answers now."""
        for number in range(_TRIES):
            self.send(number)
            if self.answer_ns(_TRY_S) is not None:
                return True
        return False

    def close(self) -> None:
        """Let go of the socket."""
        self._socket.close()


class DowntimeProbe(Probe):
    """ICMP to the guest's kernel; where that is not to be had, UDP to a process of the guest."""

    tells = Downtime
    serves = frozenset(GuestOs)
    part = "echo"

    def __init__(self, icmp: Callable[[str], Way | None] | None = None) -> None:
        """``icmp``: what makes a way of an address, None: a socket of this machine."""
        self._icmp = icmp or icmp_way
        self._way: Way | None = None
        self._pausing = False
        self._sent_ns = 0
        self._interval_s = INTERVAL_S
        self._answers_ns: list[int] = []
        self._unanswered = 0
        """Questions since the last answer."""
        self._sent = 0
        self._paused_ns: int | None = None
        self._resuming_ns: int | None = None
        self._many = False
        self._back = False
        """It has answered since it was resumed, and is one of many."""
        self._left_alone_until_ns: int | None = None
        """When it was asked once more, after it was left alone; None: it was not."""

    def start(self, scene: Scene, deadline: Deadline) -> None:
        """Find a way that is answered, begin to ask. Raises MissingCapability."""
        self._clock = scene.clock
        self._many = len(scene.update_domain) > _FEW
        self._interval_s = max(INTERVAL_S, _EACH_S * len(scene.update_domain))
        address = direct_address(scene)
        # By ICMP any machine answers that has the address; a login there has shown that it is ours.
        by_login = scene.remote.way.access == "ssh"
        self._way = (self._icmp(address) if by_login else None) or _udp(scene, address, deadline)
        if self._way is None:
            asked = "neither ICMP nor UDP" if by_login else f"no UDP at {address}"
            raise MissingCapability("echo", f"the guest answers {asked} from here")
        # It answered just now: a silence that begins at once has a beginning, too.
        self._answers_ns.append(self._clock.monotonic_ns())
        self._sent += 1
        OUTSIDE.add(self)

    def pausing(self) -> None:
        """From now on it matters when the last answer came."""
        self._unanswered = 0  # what was lost before is not waited for
        self._pausing = True
        OUTSIDE.nudge()

    def paused(self) -> None:
        """The silence that counts begins about now."""
        self._paused_ns = self._clock.monotonic_ns()

    def resuming(self) -> None:
        """And should end about now: what waits is answered then, else it is asked a while later."""
        self._resuming_ns = self._clock.monotonic_ns()
        OUTSIDE.nudge()

    def stop(self, deadline: Deadline) -> Downtime:
        """Ask once more, wait for an answer, for a limited time; then tell."""
        assert self._way is not None
        if self._back:
            self._left_alone_until_ns = self._clock.monotonic_ns()
            OUTSIDE.nudge()
        until = deadline.sooner(_PATIENCE_S)
        while True:
            silent_s, at_least_s = self._silence(self._clock.monotonic_ns())
            if silent_s is not None or until.expired:
                break
            self._clock.sleep(INTERVAL_S)
        OUTSIDE.remove(self)
        counts = self._sent, len(self._answers_ns)
        return Downtime(self._way.kind, self._interval_s, silent_s, at_least_s, *counts)

    def close(self) -> None:
        """Stop asking."""
        OUTSIDE.remove(self)
        if self._way is not None:
            self._way.close()

    def _silence(self, now_ns: int) -> tuple[float | None, float]:
        """The longest silence that ended after the pause began; and how long it lasts by now.

        None as long as nothing was heard after the resume, or not for a while. That it was left
        alone is no silence of its.
        """
        answers = list(self._answers_ns)
        from_ns, again_ns = self._paused_ns or 0, self._left_alone_until_ns or 0
        pairs = zip(answers, answers[1:], strict=False)
        gaps = [
            (after - before) / NS_PER_S
            for before, after in pairs
            if after >= from_ns and not before < again_ns <= after
        ]
        lasting_s = (now_ns - max(answers[-1], again_ns)) / NS_PER_S if answers else 0.0
        heard = bool(answers) and answers[-1] >= max(self._resuming_ns or from_ns, again_ns)
        answers_now = heard and lasting_s < _ANSWERS_S
        return (max(gaps, default=0.0) if answers_now else None), lasting_s

    def fileno(self) -> int:
        """See :class:`Watcher`."""
        assert self._way is not None
        return self._way.fileno()

    def due_ns(self) -> int | None:
        """See :class:`Watcher`."""
        if self._back and self._left_alone_until_ns is None:
            return None
        if self._sent_ns < (self._left_alone_until_ns or 0):
            return self._left_alone_until_ns
        wait_s, since_ns = _IDLE_S, max(self._sent_ns, self._resuming_ns or 0)
        if self._pausing and self._paused_ns is None:
            wait_s = self._interval_s
            if self._unanswered:
                wait_s = max(wait_s, _UNANSWERED_S * 2 ** (self._unanswered - 1))
        elif self._paused_ns is not None and self._resuming_ns is None and self._unanswered:
            wait_s = _UNANSWERED_IN_PAUSE_S
        return since_ns + round(wait_s * NS_PER_S)

    def act(self) -> None:
        """See :class:`Watcher`."""
        assert self._way is not None
        self._sent_ns = self._clock.monotonic_ns()
        self._way.send(self._sent)
        self._sent += 1
        self._unanswered += 1

    def hear(self) -> None:
        """See :class:`Watcher`."""
        assert self._way is not None
        answer_ns = self._way.answer_ns(0.0)
        if answer_ns is not None:
            self._answers_ns.append(answer_ns)
            self._unanswered = 0
            self._back |= (
                self._many and self._resuming_ns is not None and answer_ns >= self._resuming_ns
            )


def _udp(scene: Scene, address: str, deadline: Deadline) -> Way | None:
    try:
        token, port, _ = scene.echo_ports(secrets.token_hex(8), ip_version(address), deadline)
    except HarnessError:
        return None  # no python3, or no port to be had
    connection = _connected(address, socket.SOCK_DGRAM, 0, port)
    return _that_works(Way("udp", connection, token.encode())) if connection else None


def icmp_way(address: str) -> Way | None:
    """Return a way by ICMP to what answers at ``address``; None: nothing does."""
    protocol = socket.IPPROTO_ICMPV6 if ip_version(address) == "6" else socket.IPPROTO_ICMP
    for kind in (socket.SOCK_DGRAM, socket.SOCK_RAW):  # the first needs no right, where allowed
        connection = _connected(address, kind, protocol, 0)
        if connection is not None:
            way = _that_works(Way("icmp", connection, secrets.token_bytes(8)))
            if way is not None:
                return way
    return None


def _connected(address: str, kind: int, protocol: int, port: int) -> socket.socket | None:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        connection = socket.socket(family, kind, protocol)
    except OSError:
        return None
    try:
        connection.connect((address, port))
    except OSError:
        connection.close()
        return None
    return connection


def _that_works(way: Way) -> Way | None:
    if way.works():
        return way
    way.close()
    return None


def _checksum(data: bytes) -> int:
    """The Internet checksum (RFC 1071)."""
    data += b"\0" * (len(data) % 2)
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    total = (total & 0xFFFF) + (total >> 16)
    return ~(total + (total >> 16)) & 0xFFFF
