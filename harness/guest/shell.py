"""A guest's shell over SSH (:class:`harness.guest.protocol.GuestShell`), by paramiko."""

from __future__ import annotations

from contextlib import suppress

from harness.core.errors import HarnessError, ProbeError
from harness.core.fanout import fan_out
from harness.core.last_line import last_line
from harness.core.timebase import SYSTEM_CLOCK, Clock, Deadline
from harness.guest import framing, powershell
from harness.guest.connection import Connection
from harness.guest.framing import Frame, NeverBegan
from harness.guest.lean_paramiko import paramiko
from harness.guest.powershell import LoginShell, PowerShellFrame
from harness.guest.protocol import Completed, Language
from harness.guest.ssh_settings import SshSettings
from harness.guest.translate import translated

#: More than any probe prints; the output of a guest that floods is cut.
OUTPUT_LIMIT_BYTES = 8 * 1024 * 1024
_CHUNK_BYTES = 65536
#: What a login shell may say to a question, and for how long.
_SAID_BYTES, _QUESTION_S = 65536, 10.0
#: For a process to end whose answer is complete; a login shell may stay for longer.
_EXIT_S = 0.5
#: paramiko tells the channels that the connection broke right before it admits so itself.
_SETTLE_S = 0.1
#: How long standard error is waited for where a login shell has sent it elsewhere.
_ERRORS_S = 1.0


class SshShell:
    """One open, authenticated connection; safe to use from one thread at a time."""

    def __init__(self, guest: str, connection: Connection, clock: Clock = SYSTEM_CLOCK) -> None:
        self.guest = guest
        self.way = connection.way
        self.speaks = Language.SH
        self._login = LoginShell.CMD
        self._connection = connection
        self._clock = clock

    @classmethod
    def open(cls, guest: str, address: str, settings: SshSettings, deadline: Deadline) -> SshShell:
        """Connect, check the host key, log in.

        Raises ShellUnreachable, HostKeyRejected, ConfigError or DeadlineExpired.
        """
        connection = Connection.open(guest, address, settings, deadline)
        return cls(guest, connection, deadline.clock)

    def run(self, command: str, deadline: Deadline, *, check: bool = True) -> Completed:
        """Run a command and collect what it prints.

        A login shell that does not start ``sh`` is asked whether it is that of a Windows, which
        changes what it ``speaks``; the error is raised all the same: the command was for ``sh``.
        """
        try:
            return self._run(command, deadline, check=check)
        except NeverBegan:
            self._doubt_sh(deadline)
            raise

    def _doubt_sh(self, deadline: Deadline) -> None:
        if self.speaks is Language.SH:
            with suppress(HarnessError):
                self._ask_whether_windows(deadline.sooner(_QUESTION_S))

    def _frame(self) -> Frame:
        return Frame() if self.speaks is Language.SH else PowerShellFrame(self._login)

    def _ask_whether_windows(self, deadline: Deadline) -> None:
        said = b""
        with translated(self.guest, "asking what its login shell is", deadline):
            channel = self._connection.transport.open_session(timeout=deadline.timeout_s())
            try:
                _start(self.guest, channel, powershell.QUESTION, b"", deadline)
                with suppress(OSError):
                    channel.shutdown_write()
                while chunk := channel.recv(_CHUNK_BYTES):
                    said += chunk
                    if len(said) > _SAID_BYTES:
                        break
                    channel.settimeout(deadline.timeout_s())
            finally:
                channel.close()
        login = powershell.recognised(said)
        if login is not None:
            self._login, self.speaks = login, Language.POWERSHELL

    def _run(self, command: str, deadline: Deadline, *, check: bool) -> Completed:
        frame = self._frame()
        with translated(self.guest, "running a command", deadline):
            channel = self._connection.transport.open_session(timeout=deadline.timeout_s())
            try:
                script = frame.script(command, answers=False)
                _start(self.guest, channel, frame.command, script, deadline)
                with suppress(OSError):
                    channel.shutdown_write()
                completed = _collect(self.guest, channel, frame, deadline)
                # Where a channel is closed while the server has yet to tell how its process ended,
                # dropbear ends the whole connection (seen in 8 of 75 logins to busy guests).
                channel.status_event.wait(deadline.sooner(_EXIT_S).remaining_s())
            finally:
                channel.close()
        if check:
            completed.expect_success(self.guest)
        return completed

    def stream(self, command: str, deadline: Deadline) -> SshLineStream:
        """Start a long-lived line server; it is running when this returns. As ``run``."""
        try:
            return self._stream(command, deadline)
        except NeverBegan:
            self._doubt_sh(deadline)
            raise

    def _stream(self, command: str, deadline: Deadline) -> SshLineStream:
        frame = self._frame()
        with translated(self.guest, "starting a remote loop", deadline):
            channel = self._connection.transport.open_session(timeout=deadline.timeout_s())
            stream = SshLineStream(self.guest, channel, frame, self._clock)
            try:
                script = frame.script(command, answers=True)
                _start(self.guest, channel, frame.command, script, deadline)
                stream.await_begin(deadline)
            except BaseException:
                channel.close()
                raise
        return stream

    def close(self) -> None:
        """Close the connection, and that of the jump host."""
        self._connection.close()


class SshLineStream:
    """A remote process that answers a line to a line (:class:`LineStream`)."""

    def __init__(self, guest: str, channel: paramiko.Channel, frame: Frame, clock: Clock) -> None:
        self._guest = guest
        self._channel = channel
        self._frame = frame
        self._clock = clock
        self._received = b""
        self._began = False

    def await_begin(self, deadline: Deadline) -> None:
        """Pass over what the login shell says before the process.

        Nothing may be sent before: the shell that starts it may read ahead. Raises ProbeError if
        the login shell ends instead.
        """
        while (after := self._frame.out.after_begin(self._received)) is None:
            self._receive(deadline)
        self._received = after
        self._began = True

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
        if b"\n" in self._received:  # here already: nothing to wait for, nothing to translate
            answer, received_ns = self._line(deadline)
            return answer.decode(errors="replace"), received_ns
        with translated(self._guest, "listening to the remote loop", deadline):
            answer, received_ns = self._line(deadline)
        return answer.decode(errors="replace"), received_ns

    def close(self) -> None:
        """End the process by closing its input."""
        with suppress(OSError, EOFError, paramiko.SSHException):
            self._channel.close()

    def _line(self, deadline: Deadline) -> tuple[bytes, int]:
        received_ns = self._clock.monotonic_ns()
        while b"\n" not in self._received:
            received_ns = self._receive(deadline)
        line, _, self._received = self._received.partition(b"\n")
        if self._frame.out.before_end(line + b"\n") is not None:
            raise self._ended()
        return line, received_ns

    def _receive(self, deadline: Deadline) -> int:
        """Wait for more bytes; when they came."""
        self._channel.settimeout(deadline.timeout_s())
        chunk = self._channel.recv(_CHUNK_BYTES)
        received_ns = self._clock.monotonic_ns()
        if not chunk:
            _check_connected(self._channel)
            raise self._ended()
        self._received += self._frame.cleaned(chunk)
        if len(self._received) > OUTPUT_LIMIT_BYTES:
            raise ProbeError("the remote loop floods us", guest=self._guest)
        return received_ns

    def _ended(self) -> ProbeError:
        errors = _read_errors(self._channel, self._frame, b"", Deadline.after(_ERRORS_S))
        if not self._began:
            return framing.never_began(self._received, errors, self._guest)
        words = self._frame.errors.within(errors).decode(errors="replace")
        last = last_line(words, "without a word")
        return ProbeError(f"the remote loop ended: {last}", guest=self._guest)


def _start(
    guest: str, channel: paramiko.Channel, command: str, script: bytes, deadline: Deadline
) -> None:
    """Start the shell in bounded time: paramiko waits for the server's consent without limit."""
    call = {guest: lambda: channel.exec_command(command)}
    fan_out(call, deadline, what="starting a command")[guest].get()
    channel.settimeout(deadline.timeout_s())
    try:
        channel.sendall(script)
    except TimeoutError:
        raise
    except OSError:
        if not channel.closed:
            raise
        # else the login shell has ended: what it said is still to be read


def _check_connected(channel: paramiko.Channel) -> None:
    """The end of a channel is the end of a process only while the connection lives."""
    transport = channel.get_transport()
    transport.join(_SETTLE_S)
    if not transport.is_active():
        raise paramiko.SSHException("the connection broke")


def _collect(guest: str, channel: paramiko.Channel, frame: Frame, deadline: Deadline) -> Completed:
    """Wait for the end of the command, not for that of the login shell."""
    out, errors = b"", b""
    after: bytes | None = None
    while after is None or frame.out.before_end(after) is None:
        channel.settimeout(deadline.timeout_s())
        chunk = channel.recv(_CHUNK_BYTES)
        while channel.recv_stderr_ready():
            errors += frame.cleaned(channel.recv_stderr(_CHUNK_BYTES))
        if not chunk:
            break
        out += frame.cleaned(chunk)
        if len(out) + len(errors) > OUTPUT_LIMIT_BYTES:
            raise paramiko.SSHException(f"more than {OUTPUT_LIMIT_BYTES} bytes of output")
        after = frame.out.after_begin(out)
    errors = _read_errors(channel, frame, errors, deadline)
    if after is None:
        _check_connected(channel)
        raise framing.never_began(out, errors, guest)
    output, status = frame.out.before_end(after) or (after, _status_of_the_dead(channel, deadline))
    return Completed(
        status,
        output.decode(errors="replace"),
        frame.errors.within(errors).decode(errors="replace"),
    )


def _status_of_the_dead(channel: paramiko.Channel, deadline: Deadline) -> int:
    """The status of a command that was killed before it could tell; never 0."""
    if not channel.status_event.wait(deadline.timeout_s()):
        raise TimeoutError
    if channel.exit_status < 0:
        _check_connected(channel)
    return channel.exit_status or -1


def _read_errors(
    channel: paramiko.Channel, frame: Frame, errors: bytes, deadline: Deadline
) -> bytes:
    """Read standard error up to the frame's end, or to its own.

    A login shell may have sent it elsewhere; then it is not waited for.
    """
    elsewhere = deadline.sooner(_ERRORS_S)
    marks = frame.errors
    while (after := marks.after_begin(errors)) is None or marks.before_end(after) is None:
        if len(errors) > OUTPUT_LIMIT_BYTES:
            raise paramiko.SSHException(f"more than {OUTPUT_LIMIT_BYTES} bytes of output")
        channel.settimeout((elsewhere if after is None else deadline).timeout_s())
        try:
            chunk = channel.recv_stderr(_CHUNK_BYTES)
        except TimeoutError:
            if after is None and not deadline.expired:
                break
            raise
        if not chunk:
            break
        errors += frame.cleaned(chunk)
    return errors
