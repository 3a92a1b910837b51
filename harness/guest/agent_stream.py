"""A program in the guest that answers a line to a line, asked by way of its guest agent.

The agent tells what a program printed only once that has ended. So the program reads a named pipe
and writes a file, and the agent writes the one and reads the other: a file that holds nothing new
is no error, which libvirt would log once a look. Both have lost their names before the first
question, so nothing is left in the guest, however this ends.
"""

from __future__ import annotations

import base64
import secrets
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from harness.core.errors import HarnessError, ProbeError
from harness.core.last_line import last_line
from harness.core.timebase import Deadline
from harness.guest.agent_channel import nonsense

if TYPE_CHECKING:
    from harness.guest.agent_shell import AgentShell

#: A stream that floods us is not listened to.
_LIMIT_BYTES = 8 * 1024 * 1024
_CHUNK_BYTES = 256 * 1024
#: Between two looks whether an answer is there: most are by the first.
_FIRST_LOOK_S, _LAST_LOOK_S = 0.001, 0.05
#: After so long without an answer it is asked whether the program lives, again and again.
_SILENT_S = 0.5
_CLOSE_S = 2.0
#: A program whose harness was killed ends by itself: no connection breaks that would tell it.
_LONGEST_S = 24 * 3600
_ROOM = """umask 077
for folder in /run /dev/shm /tmp; do
    mkdir "$folder/{name}" 2>/dev/null && cd "$folder/{name}" || continue
    mkfifo in && : >out && pwd && exit 0
    rm -r "$folder/{name}"
done
echo 'no folder in the guest takes a named pipe' >&2; exit 1"""
#: A program in the background is given no input by its shell: it takes ours by another number. The
#: nap is ended by ``$!``, since a variable may not be set when the program has ended, and by -9:
#: one that was only just forked forgets any other signal as it becomes ``sleep``.
_SCRIPT = """PATH=${{PATH:-/usr/sbin:/usr/bin:/sbin:/bin}} LC_ALL=C; export PATH LC_ALL; unset TMOUT
cd {room} && exec 3<in >out && cd / && rm -r {room} && echo begun || exit 1
( exec <&3 3<&-
{command}
) & program=$!
exec 3<&-
( trap 'kill -9 $!; exit' TERM; sleep {longest_s} & wait; kill $program
) </dev/null >/dev/null 2>&1 & watch=$!
wait $program; status=$?; kill $watch; exit $status
"""


class AgentStream:
    """A remote process that answers a line to a line (:class:`harness.guest.protocol.LineStream`).

    Safe to use from one thread at a time.
    """

    def __init__(self, shell: AgentShell, pipe: int, answers: int, pid: int) -> None:
        self._shell = shell
        self._guest = shell.guest
        self._pipe = pipe
        self._answers = answers
        self._pid = pid
        self._received = b""
        self._closed = False

    @classmethod
    def open(cls, shell: AgentShell, command: str, deadline: Deadline) -> AgentStream:
        """Start ``command``. Raises what ``AgentShell.ask`` does, CommandFailed, ProbeError."""
        name = f"harness-{secrets.token_hex(12)}"
        room = shell.run(_ROOM.format(name=name), deadline).stdout.strip()
        if room.rpartition("/")[2] != name:  # it goes into a script
            raise nonsense(shell.guest, room)
        opened: list[int] = []
        try:
            for file, mode in (("in", "r+"), ("out", "r")):
                found = shell.ask("guest-file-open", deadline, path=f"{room}/{file}", mode=mode)
                if not isinstance(found, int):
                    raise nonsense(shell.guest, found)
                opened.append(found)
            script = _SCRIPT.format(room=room, command=command, longest_s=_LONGEST_S)
            stream = cls(
                shell, opened[0], opened[1], shell.start("/bin/sh", ["-c", script], deadline)
            )
            if (said := stream.listen(deadline)[0]) != "begun":
                raise nonsense(shell.guest, said)
        except BaseException:
            with suppress(HarnessError):
                for handle in opened:
                    shell.ask("guest-file-close", deadline, handle=handle)
                shell.run(f"rm -rf {room}", deadline)
            raise
        return stream

    def ask(self, line: str, deadline: Deadline) -> tuple[int, str, int]:
        """Send a line, wait for one line."""
        data = base64.b64encode(line.encode() + b"\n").decode()
        # What is written is in the agent's own buffer until it is flushed; or it is not.
        sent_ns = deadline.clock.monotonic_ns()
        self._ask("guest-file-write", deadline, **{"handle": self._pipe, "buf-b64": data})
        self._ask("guest-file-flush", deadline, handle=self._pipe)
        return sent_ns, *self.listen(deadline)

    def listen(self, deadline: Deadline) -> tuple[str, int]:
        """Wait for one line without asking: an answer that came late."""
        clock = deadline.clock
        received_ns, wait_s = clock.monotonic_ns(), _FIRST_LOOK_S
        silent_until = deadline.sooner(_SILENT_S)
        while b"\n" not in self._received:
            chunk = self._read(deadline)
            received_ns = clock.monotonic_ns()
            self._received += chunk
            if len(self._received) > _LIMIT_BYTES:
                raise ProbeError("the remote loop floods us", guest=self._guest)
            if chunk:
                wait_s = _FIRST_LOOK_S
                continue
            if silent_until.expired:
                self._expect_life(deadline)
                silent_until = deadline.sooner(_SILENT_S)
            deadline.check("listening to the remote loop")
            clock.sleep(min(wait_s, deadline.remaining_s()))
            wait_s = min(2 * wait_s, _LAST_LOOK_S)
        line, _, self._received = self._received.partition(b"\n")
        return line.decode(errors="replace"), received_ns

    def close(self) -> None:
        """End the process by closing its input."""
        if self._closed:
            return
        self._closed = True
        until = Deadline.after(_CLOSE_S)
        with suppress(HarnessError):  # one that does not answer is not asked for the other as well
            for handle in (self._pipe, self._answers):
                self._shell.ask("guest-file-close", until, handle=handle)

    def _read(self, deadline: Deadline) -> bytes:
        said = self._ask("guest-file-read", deadline, handle=self._answers, count=_CHUNK_BYTES)
        try:
            return base64.b64decode(said["buf-b64"], validate=True)
        except (KeyError, TypeError, ValueError) as error:
            raise nonsense(self._guest, said) from error

    def _ask(self, command: str, deadline: Deadline, **arguments: Any) -> Any:
        if self._closed:
            raise ProbeError("the remote loop was closed", guest=self._guest)
        return self._shell.ask(command, deadline, **arguments)

    def _expect_life(self, deadline: Deadline) -> None:
        """Raise ProbeError, with its last words, if the program has ended."""
        ended = self._shell.look(self._pid, deadline)
        if ended is not None:
            last = last_line(ended.stderr, "without a word")
            raise ProbeError(f"the remote loop ended: {last[:200]}", guest=self._guest)
