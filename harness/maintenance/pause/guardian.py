"""The second process of a run: it resumes the run's guests if the run cannot.

Started before the first pause, in a session of its own and with its own connection to libvirt
already open. It survives the death of the run, of its process group and of the terminal. While it
is armed it resumes every guest that the journal says this run holds, and no other, as soon as

- the socket to the run ends: the run has died, of whatever; or
- the limit is reached: half-way from when the run itself should resume to the end of the budget.

It ends the update's processes too: no other process is there to do it. Of guests that it cannot
resume it has people told by a process of its own, and goes on trying.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from harness.core.errors import TakenOver
from harness.core.fanout import hire
from harness.core.polling import readable
from harness.core.process_state import settle_process
from harness.core.spare_memory import keep_one_heap, spare
from harness.core.timebase import SYSTEM_CLOCK, Clock, Deadline
from harness.host.parking import Parking
from harness.host.process_family import Family
from harness.host.protocol import Hypervisor
from harness.maintenance.pause.alarm import Alarm, tell_by_process
from harness.maintenance.pause.ending import Ending
from harness.maintenance.pause.parkable import parking_of
from harness.maintenance.pause.resume import resume_all
from harness.maintenance.pause.scribe import Scribe
from harness.maintenance.pause.takeover import NOT_OURS
from harness.results.journal import Journal, Line, Member, Reading, entries, fold

#: It goes on for so long after the run's own patience is over.
PATIENCE_S = 600.0
_LOOK_S = 10.0
#: To connect at its start: no guest is paused before it has answered, and a host that is reached by
#: SSH while the run logs in to its guests may take longer than one that is not busy.
_CONNECT_S = 60.0
#: The names and UUIDs of more guests than one update domain has.
_PACKET_BYTES = 1 << 18
#: One that resumes, one for its call to libvirt, and two more should that call hang.
_THREADS_A_GUEST = 4
#: For calls to libvirt, whose messages are buffers of 64 KiB at least, and for the journal.
_MEMORY_BYTES, _MEMORY_A_GUEST_BYTES = 1 << 20, 1 << 18
_AGAIN_S = 0.05
#: Descriptors that are kept for ending the update.
_RESERVED = 4
_FLUSH_S = 2.0
_ENDING_S = 4.0
#: Until the process that tells people is started.
_ALARM_S = 4.0
#: As hard to kill for memory as an ordinary service may be.
_OOM_SCORE = "-900"
_NOT_PAUSED_BY_US = (TakenOver, *NOT_OURS)
_IGNORED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)


@dataclass(frozen=True)
class _Armed:
    members: tuple[Member, ...]
    parkings: Mapping[str, Parking]
    """The guests that may be parked, by UUID."""
    since_ns: int
    until: Deadline
    ending: Ending
    alarm: Alarm


class Guardian:
    """The guardian's loop: :meth:`_serve` decides when guests are rescued, :meth:`_rescue` does it.

    Once it is armed, nothing that can fail comes before the resume: who is held is in memory, the
    threads, connections and free memory are there, and the journal can only say who is held no
    longer.
    """

    def __init__(
        self,
        hypervisor: Hypervisor,
        journal: Journal,
        run: socket.socket,
        clock: Clock = SYSTEM_CLOCK,
        tell_people: Callable[[bool], None] = lambda over: None,
    ) -> None:
        """Have everything at hand that serving the run takes.

        ``tell_people`` of guests that could not be resumed, given whether the rescue is over; it
        may raise anything, or hang.
        """
        self._hypervisor = hypervisor
        self._scribe = Scribe(journal)
        self._run = run
        self._clock = clock
        self._tell_people = tell_people
        self._armed: _Armed | None = None
        self._buffer = bytearray(_PACKET_BYTES)
        self._reserve = [os.open(os.devnull, os.O_RDONLY) for _ in range(_RESERVED)]

    def keep(self) -> None:
        """Serve the run until it is gone."""
        while self._serve():
            pass
        self._scribe.flush(_FLUSH_S)
        self._let_go_of_the_reserve()

    def _serve(self) -> bool:
        """Answer the run, or rescue its guests; False when the run is gone. Never raises."""
        try:
            packet = self._packet() if self._run_speaks() else None
        except BaseException as error:  # noqa: BLE001  e.g. out of memory; the limit holds still
            self._complain(error)
            self._clock.sleep(_AGAIN_S)
            if self._armed is None or not self._armed.until.expired:
                return True
            packet = None
        if packet is None:
            self._rescue("the limit is reached")
            return True
        if not packet:
            self._rescue("the run is gone")
            return False
        try:
            self._answer(json.loads(packet))
        except BaseException as error:  # noqa: BLE001  no packet may end the rescuer
            self._complain(error)
        return True

    def _run_speaks(self) -> bool:
        """Wait for the run; False if the limit is reached first."""
        until = self._armed.until if self._armed else None
        return bool(readable([self._run.fileno()], until))

    def _packet(self) -> bytes:
        try:
            return bytes(self._buffer[: self._run.recv_into(self._buffer)])
        except ConnectionError:
            return b""

    def _answer(self, request: dict[str, Any]) -> None:
        if "arm" in request:
            self._say({"to": "arm"} | self._arm(**request["arm"]))
        elif "disarm" in request:
            self._disarm()
            self._say({"to": "disarm"})

    def _arm(
        self, until_ns: int, mark: str, guests: list[dict[str, str]], patience_s: float
    ) -> dict[str, str]:
        """Have ready what a rescue takes, and look at every guest once by it."""
        now_ns = self._clock.monotonic_ns()
        limit = Deadline(until_ns, (until_ns - now_ns) / 1e9, self._clock)
        look_until = Deadline.after(_LOOK_S, self._clock)
        members = tuple(Member(**guest) for guest in guests)
        try:
            self._hypervisor.ready(len(members), look_until)
            for member in members:
                self._hypervisor.state(member.uuid, look_until)
            if not hire(_THREADS_A_GUEST * len(members) + 1):
                return {"error": "no threads are to be had (limit of tasks, or of memory)"}
            said = fold(self._scribe.read()).parkable
            ending = Ending(partial(self._end_update, mark))
            alarm = Alarm(self._sound, patience_s)
            spare(_MEMORY_BYTES + _MEMORY_A_GUEST_BYTES * len(members))
        except Exception as error:  # noqa: BLE001  whatever it is, nothing is paused
            return {"error": str(error) or type(error).__name__}
        self._disarm()
        parkings = {uuid: parking_of(one) for uuid, one in said.items()}
        self._armed = _Armed(members, parkings, now_ns, limit, ending, alarm)
        return {}

    def _end_update(self, mark: str) -> None:
        """End the processes of the update; that takes descriptors, and there may be no more."""
        self._let_go_of_the_reserve()
        Family(mark=mark).end()

    def _let_go_of_the_reserve(self) -> None:
        reserve, self._reserve = self._reserve, []
        for descriptor in reserve:
            os.close(descriptor)

    def _disarm(self) -> None:
        armed, self._armed = self._armed, None
        if armed is not None:
            armed.ending.free(0)
            armed.alarm.end(stranded=False)

    def _sound(self, over: bool) -> bool:
        """Have people told; not while the run lives and goes on trying: it tells them itself."""
        if not over and not self._run_is_gone():
            return False
        self._tell_people(over)
        return True

    def _run_is_gone(self) -> bool:
        try:
            return not self._run.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except BlockingIOError:
            return False
        except ConnectionError:
            return True

    def _say(self, message: dict[str, str]) -> None:
        with suppress(OSError):  # it has died; the next packet tells
            self._run.send(json.dumps(message).encode())

    def _complain(self, error: BaseException) -> None:
        """Tell the log; never raises."""
        with suppress(BaseException):
            sys.stderr.write(f"guardian: {type(error).__name__}: {error}\n")
            sys.stderr.flush()

    def _rescue(self, why: str) -> None:
        """Resume what the run still holds; everything else comes after. Never raises."""
        armed, self._armed = self._armed, None
        if armed is None:
            return
        armed.ending.ask()
        armed.alarm.begin()
        patience = Deadline.after(PATIENCE_S, self._clock)
        while (stranded := self._resume(self._held(armed), armed, patience)) is None:
            self._clock.sleep(_AGAIN_S)
        armed.alarm.end(stranded=bool(stranded))
        armed.ending.free(_ENDING_S)
        armed.alarm.wait(_ALARM_S)
        try:
            self._scribe.note(entries.Rescue(why))
            self._scribe.flush(_FLUSH_S)
            self._say({"to": "rescued"})
        except BaseException as error:  # noqa: BLE001  the guests run
            self._complain(error)

    def _held(self, armed: _Armed) -> tuple[Member, ...]:
        """The guests that the run held when arming us, less those let go since, by its journal."""
        try:
            intent = Line(0, "pausing", entries.Pausing(armed.members), {})
            told = fold(Reading((intent, *self._scribe.read().lines)))
            left = {member.uuid for member in told.held}
        except BaseException as error:  # noqa: BLE001  unreadable: it lets no guest go
            self._complain(error)
            return armed.members
        return tuple(member for member in armed.members if member.uuid in left)

    def _resume(
        self, members: Sequence[Member], armed: _Armed, patience: Deadline
    ) -> Collection[str] | None:
        """Return the guests that are still paused by us; None if it is to be tried again."""
        try:
            answers = resume_all(
                members,
                self._hypervisor,
                self._scribe,
                by="guardian",
                since_ns=armed.since_ns,
                deadline=patience,
                parkings=armed.parkings,
            )
            failed = {name: one.error for name, one in answers.items() if one.error is not None}
            return [n for n, error in failed.items() if not isinstance(error, _NOT_PAUSED_BY_US)]
        except BaseException as error:  # noqa: BLE001  no memory, a bug: guests are paused
            self._complain(error)
            return [member.name for member in members] if patience.expired else None


def _outlive() -> None:
    for number in _IGNORED:
        signal.signal(number, signal.SIG_IGN)
    with suppress(OSError):  # not root
        Path("/proc/self/oom_score_adj").write_text(_OOM_SCORE)


def main(uri: str, folder: str, descriptor: str) -> None:
    """What the process does. Its messages go to the log in the run folder."""
    settle_process()
    _outlive()
    keep_one_heap()
    from harness.host.driver import LibvirtHypervisor

    # The journal is not closed: a write that hangs would hold that up.
    journal = Journal(Path(folder), Path(folder).name, joining=True)
    with socket.socket(fileno=int(descriptor)) as run:
        hypervisor = LibvirtHypervisor.open(uri, Deadline.after(_CONNECT_S))
        tell = partial(tell_by_process, uri, folder)
        Guardian(hypervisor, journal, run, tell_people=tell).keep()
    os._exit(0)  # a call that hangs in a thread must not keep us


if __name__ == "__main__":
    main(*sys.argv[1:])
