"""Before the pause: each guest's clock, kernel-log marker and identity, and its probes started."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from harness.checks.evidence import Observed
from harness.checks.probes import probes_for
from harness.checks.probes.group import GuestProbes
from harness.checks.probes.protocol import Scene
from harness.core.errors import MissingCapability
from harness.core.fanout import fan_out, values
from harness.core.records import ClockReading
from harness.core.settings import ChecksSection
from harness.core.timebase import Deadline
from harness.guest.kernel_log import KernelLog, mark
from harness.maintenance.correction_queue import CorrectionQueue
from harness.maintenance.session import GuestSession
from harness.results.folder import RunFolder


@dataclass(frozen=True)
class Baseline:
    """One guest before the pause."""

    clock: ClockReading
    seen: Observed
    kernel_log: KernelLog


def take_baselines(
    sessions: Mapping[str, GuestSession], checks: ChecksSection, run_dir: Path, deadline: Deadline
) -> dict[str, Baseline]:
    """Start the probes of every guest of an update domain, and take its baseline; in parallel.

    Probes of an earlier baseline are let go. Raises the errors of all guests, together.
    """
    for session in sessions.values():
        session.watch_with(_probes(session, tuple(sessions), checks, run_dir, deadline))
    looks = {name: partial(_look_first, one, deadline) for name, one in sessions.items()}
    looked = fan_out(looks, deadline, what="taking the baseline")
    seen = values(looked)
    # When no guest is busy with being prepared any more. The clock is read last, so that as
    # little as possible lies between that and the pause.
    marks = {name: partial(_mark, one, deadline) for name, one in sessions.items()}
    values(fan_out(marks, deadline, what="taking the baseline"))
    # How well it can be read is what is expected of it after the pause: few at once here, too.
    queue = CorrectionQueue(len(sessions))
    lasts = {name: partial(_read, one, queue, deadline) for name, one in sessions.items()}
    read = fan_out(lasts, deadline, what="taking the baseline")
    return {name: Baseline(clock, *seen[name]) for name, clock in values(read).items()}


def warn_of_clocks(
    sessions: Mapping[str, GuestSession], baselines: Mapping[str, Baseline]
) -> tuple[str, ...]:
    """Return a line for each guest whose clock cannot be read well enough to be judged."""
    doubts = {
        name: session.policy(baselines[name].clock).foresee(baselines[name].clock)
        for name, session in sessions.items()
    }
    return tuple(f"{name}: {why}" for name, why in doubts.items() if why)


def _probes(
    session: GuestSession,
    together: tuple[str, ...],
    checks: ChecksSection,
    run_dir: Path,
    deadline: Deadline,
) -> GuestProbes:
    scene = Scene(
        name=session.name,
        uuid=session.info.uuid,
        address=session.address,
        remote=session.shell,
        facts=session.facts,
        process=None,
        settings=checks,
        folder=RunFolder(run_dir).guest(session.name),
        run_id=run_dir.name,
        run_dir=run_dir,
        update_domain=together,
        own=checks.own_of(session.name, together),
        clock=deadline.clock,
        python=session.python,
        looks=session.looks,
    )
    return GuestProbes(scene, probes_for(checks.chosen))


def _look_first(session: GuestSession, deadline: Deadline) -> tuple[Observed, KernelLog]:
    seen = session.observe(session.facts.boot_id or None, deadline)
    if session.probes is not None:
        session.probes.start(seen.process, deadline)
    try:
        log = mark(session.shell, session.facts, deadline, session.python, session.looks)
    except MissingCapability:  # by the guest agent alone, one that runs no program
        log = KernelLog(None)
    if session.settings.watch_s > 0:
        session.sampler.ensure_probe(deadline)
    return seen, log


def _mark(session: GuestSession, deadline: Deadline) -> None:
    if session.probes is not None:
        session.probes.mark(deadline)


def _read(session: GuestSession, queue: CorrectionQueue, deadline: Deadline) -> ClockReading:
    tolerance_s = session.policy().tolerance_s
    with queue.place(deadline) as place:
        session.sampler.measure_date(deadline)
        return session.sampler.read_well(
            session.settings.samples, tolerance_s / 2, deadline, busy_s=place.busy_s
        )
