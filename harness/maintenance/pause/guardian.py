"""The second process of a run: it resumes the run's guests if the run cannot.

Started before the first pause, in a session of its own and with its own connection to libvirt
already open. It survives the death of the run, of its process group and of the terminal. While it
is armed it resumes every guest that the journal says this run holds, and no other, as soon as

- the socket to the run ends: the run has died, of whatever; or
- the limit is reached: half-way from when the run itself should resume to the end of the budget.

It ends the update's processes too: nobody else is there to do it.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import threading
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.core.errors import HarnessError
from harness.core.polling import readable
from harness.core.timebase import SYSTEM_CLOCK, Clock, Deadline
from harness.host.process_family import Family
from harness.host.protocol import Hypervisor
from harness.maintenance.pause.ownership import held
from harness.maintenance.pause.resume import resume_all
from harness.results.journal import Journal, read

#: It goes on for so long after the run's own patience is over.
PATIENCE_S = 600.0
_LOOK_S = 10.0
_PACKET_BYTES = 65536
#: As hard to kill for memory as an ordinary service may be.
_OOM_SCORE = "-900"
_IGNORED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)


@dataclass(frozen=True)
class _Armed:
    since_ns: int
    until: Deadline
    mark: str


class Watch:
    """The guardian's loop; returns when the run is gone and nobody needs it any more."""

    def __init__(
        self,
        hypervisor: Hypervisor,
        journal: Journal,
        run: socket.socket,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self._hypervisor = hypervisor
        self._journal = journal
        self._run = run
        self._clock = clock
        self._armed: _Armed | None = None

    def keep(self) -> None:
        """Serve the run until it is gone."""
        while True:
            if not self._hear():
                self._rescue("the limit is reached")
                continue
            packet = self._packet()
            if not packet:
                self._rescue("the run is gone")
                return
            self._answer(json.loads(packet))

    def _hear(self) -> bool:
        """Wait for the run; False if the limit is reached first."""
        until = self._armed.until if self._armed else None
        return bool(readable([self._run.fileno()], until))

    def _packet(self) -> bytes:
        try:
            return self._run.recv(_PACKET_BYTES)
        except ConnectionError:
            return b""

    def _answer(self, request: dict[str, Any]) -> None:
        if "arm" in request:
            self._say({"to": "arm"} | self._arm(**request["arm"]))
        elif "disarm" in request:
            self._armed = None
            self._say({"to": "disarm"})

    def _arm(self, until_ns: int, mark: str) -> dict[str, str]:
        """Look at every guest once, so that the connection is known to work."""
        now_ns = self._clock.monotonic_ns()
        limit = Deadline(until_ns, (until_ns - now_ns) / 1e9, self._clock)
        look_until = Deadline.after(_LOOK_S, self._clock)
        try:
            members = held(read(self._journal.path))
            self._hypervisor.ready(len(members), look_until)
            for member in members:
                self._hypervisor.state(member.uuid, look_until)
        except HarnessError as error:
            return {"error": str(error)}
        self._armed = _Armed(now_ns, limit, mark)
        return {}

    def _say(self, message: dict[str, str]) -> None:
        with suppress(OSError):  # it has died; the next packet tells
            self._run.send(json.dumps(message).encode())

    def _rescue(self, why: str) -> None:
        """Resume what the run still holds, and end its update."""
        armed, self._armed = self._armed, None
        if armed is None:
            return
        ending = threading.Thread(target=Family(mark=armed.mark).end, daemon=True)
        ending.start()
        members = held(read(self._journal.path))
        self._journal.note("rescue", why=why)
        resume_all(
            members,
            self._hypervisor,
            self._journal,
            by="guardian",
            patience_s=PATIENCE_S,
            since_ns=armed.since_ns,
            clock=self._clock,
        )
        ending.join()
        self._say({"to": "rescued"})


def _outlive() -> None:
    for number in _IGNORED:
        signal.signal(number, signal.SIG_IGN)
    with suppress(OSError):  # not root
        Path("/proc/self/oom_score_adj").write_text(_OOM_SCORE)


def main(uri: str, folder: str, descriptor: str) -> None:
    """What the process does. Its messages go to the log in the run folder."""
    _outlive()
    from harness.host.driver import LibvirtHypervisor

    run = socket.socket(fileno=int(descriptor))
    hypervisor = LibvirtHypervisor.open(uri, Deadline.after(_LOOK_S))
    Watch(hypervisor, Journal(Path(folder), Path(folder).name, joining=True), run).keep()
    os._exit(0)  # a call that hangs in a thread must not keep us


if __name__ == "__main__":
    main(*sys.argv[1:])
