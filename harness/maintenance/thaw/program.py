"""What ``init=`` of a new kernel starts first: guests go on before systemd does.

``python -I -m harness.maintenance.thaw.program PLAN``, started by the launcher that
:mod:`harness.updates.kernel.launcher` writes, which becomes the real init whatever comes of this.
What could not be brought back is left as it is, for ``harness recover`` once the host is up.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from types import FrameType

from harness.core.fanout import fan_out
from harness.core.files import public_folder
from harness.core.process_state import settle_process
from harness.core.timebase import NS_PER_S, SYSTEM_CLOCK, Deadline
from harness.host.kernel import apparmor, chains, early, modules
from harness.host.kernel.brief_libvirtd import brief_libvirtd
from harness.host.parking import Parking
from harness.host.protocol import Hypervisor
from harness.maintenance.pause.parkable import parking_of
from harness.maintenance.pause.unparking import start
from harness.maintenance.thaw import arrival, beside
from harness.results.journal import History, Journal, ToDo, entries, fold
from harness.updates.kernel.plan import CHECK, ThawPlan, read

BY = "thaw"
FOLDER = Path("/run/harness/thaw")
CONSOLE = Path("/dev/console")
_PASS = 0o711

Say = Callable[[str], None]


def thaw(plan: ThawPlan, say: Say) -> bool:
    """Bring back every guest that the plan holds; True if all of them run. Raises HarnessError."""
    deadline = Deadline.after(plan.limit_s)
    with Journal(Path(plan.folder), plan.run_id, joining=True) as journal:
        history = fold(journal.read())
        if not arrival.is_awaited(history):
            say("no guest was handed over to this boot")
            return True
        clock_set = arrival.set_clock(history)
        say(_clock_in_words(clock_set))
        beside.import_binding()
        modules.load((*arrival.MODULES, *plan.modules))
        say("modules are loaded")
        arrival.mount_region(plan, deadline)
        history = arrival.arrive(plan, journal, BY, clock_set)
        if history.arrived is not None and history.arrived.problem:
            say(f"no guest is brought back: {history.arrived.problem}")
            return False
        say("the RAM of guests is what was left")
        return _bring_back(plan, history, journal, deadline, say)


def _clock_in_words(clock_set: tuple[int, int] | None) -> str:
    if clock_set is None:
        return "clock not set: the CPU's counter was set back"
    moved_ns, known_ns = clock_set
    return f"clock set by {moved_ns / 1e6:+.1f} ms, known to {known_ns / 1e6:.1f} ms"


def _bring_back(
    plan: ThawPlan, history: History, journal: Journal, deadline: Deadline, say: Say
) -> bool:
    held = [one for one in history.guests.values() if one.held and ToDo.UNPARK in one.todo]
    parkings = [parking_of(one.parkable) for one in held if one.parkable is not None]
    early.give_kvm_its_group()
    for bridge in plan.bridges:
        early.make_bridge(bridge)
    public_folder(FOLDER, mode=_PASS)
    if plan.confined:
        apparmor.confine_libvirtd(deadline)
        say("libvirtd is confined")
    with (
        beside.warm_qemu(plan, parkings) as warm,
        brief_libvirtd(FOLDER, plan.known, plan.drivers, deadline) as await_libvirtd,
    ):
        chains.make(plan.chains)
        # While it starts: its binding takes as long.
        from harness.host.driver import LibvirtHypervisor
        from harness.host.kernel import networks

        await_libvirtd()
        say("libvirtd answers")
        networks.start(plan.uri, plan.networks)
        if plan.networks:
            say(f"networks run: {', '.join(plan.networks)}")
        hypervisor = LibvirtHypervisor.open(plan.uri, deadline)
        warm.end()
        # One after the other where there is one CPU: the first is back sooner, the last no later.
        at_once = threading.Semaphore(os.cpu_count() or 1)
        try:
            calls = {
                one.name: partial(_one, one, hypervisor, journal, deadline, say, at_once)
                for one in parkings
            }
            with networks.in_the_background(plan.networks):
                answers = fan_out(calls, deadline, what="bringing back")
        finally:
            hypervisor.close()
    failed = {name: one.error for name, one in answers.items() if one.error is not None}
    for name, error in failed.items():
        say(f"{name} is not back: {error}")
    return not failed


def _one(
    parking: Parking,
    hypervisor: Hypervisor,
    journal: Journal,
    deadline: Deadline,
    say: Say,
    at_once: threading.Semaphore,
) -> None:
    """Bring one guest back. Its state is gone, and that is on the disk, before it runs."""
    with at_once:
        _bring(parking, hypervisor, journal, deadline, say)


def _bring(
    parking: Parking, hypervisor: Hypervisor, journal: Journal, deadline: Deadline, say: Say
) -> None:
    found = start(parking, hypervisor, journal, BY, deadline, new=True)
    say(f"{parking.name} has its RAM")
    journal.intend(entries.Consumed(parking.name, parking.uuid))
    hypervisor.resume(parking.uuid, deadline)
    journal.note(entries.Resumed(parking.name, parking.uuid, BY))
    say(f"{parking.name} runs")
    if found.process is not None:
        with suppress(OSError):  # it runs; without, it is in init's own group
            early.give_a_group(parking.uuid, found.process.pid)


def _end(number: int, frame: FrameType | None) -> None:
    """What ends us ends the libvirtd of that time, too: systemd starts its own."""
    raise SystemExit(f"ended by {signal.Signals(number).name}")


def _speaker(log: Path) -> Say:
    """Lines like the kernel's own: each with the seconds since its start."""

    def say(what: str) -> None:
        line = f"[{SYSTEM_CLOCK.boottime_ns() / NS_PER_S:12.6f}] harness: {what}"
        for place, end in ((CONSOLE, "\r\n"), (log, "\n")):
            with suppress(OSError), place.open("a") as file:
                file.write(f"{line}{end}")

    return say


def check(plan: Path) -> None:
    """Read the plan, and import what :func:`thaw` imports only where it is needed."""
    import harness.host.driver
    import harness.host.kernel.networks
    import harness.maintenance.thaw.preserved  # noqa: F401

    read(plan)


def main(arguments: Sequence[str]) -> int:
    """Return 0 if every guest that was handed over runs; with ``--check``, if it could begin."""
    if arguments[0] == CHECK:
        check(Path(arguments[1]))
        return 0
    settle_process()
    signal.signal(signal.SIGTERM, _end)
    say = _speaker(FOLDER / "log")
    try:
        early.mount_the_usual()
        public_folder(FOLDER, mode=_PASS)
        say("init")
        done = thaw(read(Path(arguments[0])), say)
    except Exception as error:  # noqa: BLE001  the host has to come up
        say(f"failed: {type(error).__name__}: {error}")
        return 1
    return 0 if done else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
