"""After the resume, each guest by itself: mend its clock in its turn, then look at it again.

One guest that has fallen silent costs the others a few seconds at most.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

from harness.checks.evidence import Observed, Testimony
from harness.checks.probes import probes_for
from harness.checks.probes.group import GuestProbes
from harness.checks.probes.protocol import Scene
from harness.core.errors import HarnessError
from harness.core.fanout import errors, fan_out
from harness.core.records import ClockReading
from harness.core.settings import Config
from harness.core.timebase import SYSTEM_CLOCK, Clock, Deadline
from harness.guest.kernel_log import KernelLog, look_again, mark
from harness.guest.protocol import Connector
from harness.host.protocol import Hypervisor
from harness.maintenance.before_pause import Baseline
from harness.maintenance.correction_queue import Turns
from harness.maintenance.guest_clock import Mended, look_closer, mend
from harness.maintenance.pause.outcome import GuestPause, PauseWindow
from harness.maintenance.session import GuestSession
from harness.results.folder import RunFolder
from harness.results.journal import Journal

#: Every step ends by the deadline itself; this is for what it does after that.
_SLACK_S = 2.0
#: For logging in again to a guest whose connection broke.
_AGAIN_S = 10.0


@dataclass(frozen=True)
class Aftermath:
    """One guest after the pause; None and empty where it was silent."""

    mended: Mended
    seen: Observed = Observed()
    kernel_log: KernelLog | None = None
    testimony: Testimony | None = None
    """What its probes told."""


@dataclass(frozen=True)
class Care:
    """What it takes to look after the guests of an update domain."""

    config: Config
    hypervisor: Hypervisor
    connector: Connector
    journal: Journal
    clock: Clock = SYSTEM_CLOCK

    def take_baselines(
        self, sessions: Mapping[str, GuestSession], deadline: Deadline
    ) -> dict[str, Baseline]:
        """Every guest's probes, clock, kernel-log marker and identity before the pause.

        Taken anew, the probes begin anew. Raises the first HarnessError.
        """
        for one in sessions.values():
            if one.probes is not None:
                one.probes.close()
            one.probes = self._probes(one, tuple(sessions))
        looks = {name: partial(self._look_before, one, deadline) for name, one in sessions.items()}
        looked = fan_out(looks, deadline, what="taking the baseline")
        seen = {name: answer.get() for name, answer in looked.items()}
        # When no guest is busy with being prepared any more. The clock is read last, so that as
        # little as possible lies between that and the pause.
        lasts = {name: partial(self._look_last, one, deadline) for name, one in sessions.items()}
        read = fan_out(lasts, deadline, what="taking the baseline")
        return {name: Baseline(answer.get(), *seen[name]) for name, answer in read.items()}

    def look_after(
        self,
        sessions: Mapping[str, GuestSession],
        baselines: Mapping[str, Baseline],
        window: PauseWindow,
    ) -> dict[str, Aftermath]:
        """Mend every guest that runs again, and look at it again; in parallel. Never raises."""
        limit_s = self.config.mend_timeout_s + self.config.clock.watch_s
        deadline = Deadline.after(limit_s, self.clock)
        pauses = window.guests
        turns = Turns(sum(pauses[name].resume_returned_ns is not None for name in sessions))
        calls = {
            name: partial(self._look_after, one, baselines[name], pauses[name], turns, deadline)
            for name, one in sessions.items()
        }
        until = Deadline.after(limit_s + _SLACK_S, self.clock)
        answers = fan_out(calls, until, what="mending the clock")
        late = errors(answers)
        return {
            name: Aftermath(Mended(None, problem=str(late[name]))) if name in late else answer.get()
            for name, answer in answers.items()
        }

    def _probes(self, session: GuestSession, together: tuple[str, ...]) -> GuestProbes:
        settings, run_dir = self.config.checks, self.journal.path.parent
        scene = Scene(
            name=session.name,
            uuid=session.info.uuid,
            address=session.address,
            remote=session.shell,
            facts=session.facts,
            process=None,
            settings=settings,
            folder=RunFolder(run_dir).guest(session.name),
            run_id=run_dir.name,
            run_dir=run_dir,
            update_domain=together,
            own=settings.own_of(session.name, together),
            clock=self.clock,
        )
        return GuestProbes(scene, probes_for(settings.chosen))

    def _look_before(self, session: GuestSession, deadline: Deadline) -> tuple[Observed, KernelLog]:
        seen = session.observe(session.facts.boot_id, self.hypervisor, deadline)
        if session.probes is not None:
            session.probes.start(seen.process, deadline)
        log = mark(session.shell, session.facts, deadline)
        if self.config.clock.watch_s > 0:
            session.sampler.ensure_probe(deadline)
        return seen, log

    def _look_last(self, session: GuestSession, deadline: Deadline) -> ClockReading:
        if session.probes is not None:
            session.probes.mark(deadline)
        tolerance_s = session.policy(self.config).tolerance_s
        return session.sampler.read_well(self.config.clock.samples, tolerance_s / 2, deadline)

    def _look_after(
        self,
        session: GuestSession,
        before: Baseline,
        pause: GuestPause,
        turns: Turns,
        deadline: Deadline,
    ) -> Aftermath:
        if pause.resume_returned_ns is None:
            return Aftermath(Mended(None, problem="not resumed by this run, so it was left alone"))
        resumed_ns = pause.resume_returned_ns
        with turns.turn(deadline) as over:
            mended = mend(
                session, self.config, resumed_ns, deadline, before=before.clock, when_right=over
            )
        if mended.after_resume is not None:
            uuid = session.info.uuid
            self.journal.note("mended", guest=session.name, uuid=uuid, method=mended.method)
        mended = look_closer(
            mended, session, self.config, deadline, before=before.clock, clock=self.clock
        )
        try:
            boot_id, log = look_again(session.shell, before.kernel_log, deadline)
        except HarnessError:  # silent; its process can be seen all the same
            again = deadline.sooner(_AGAIN_S)
            boot_id = session.boot_id_anew(self.config, self.hypervisor, self.connector, again)
            log = None
        seen = session.observe(boot_id, self.hypervisor, deadline)
        told = session.probes.stop(deadline) if session.probes is not None else None
        return Aftermath(mended, seen, log, told)
