"""A run's notice that first takes a lease of each availability set whose guests it will pause.

The lease outlasts the pause by itself: from the moment a guest is paused until it runs again and
its clock is right nothing here is needed, and a database that is gone costs only the next pause.
"""

from __future__ import annotations

import platform
from pathlib import Path

from harness.core.errors import HarnessError
from harness.core.records import NoticeRecord
from harness.core.signals import Interruption
from harness.core.timebase import SYSTEM_CLOCK, Clock, Deadline
from harness.fleet.database import FleetDatabase
from harness.fleet.leases import release, take
from harness.maintenance.notice import Notice
from harness.maintenance.plan import Plan, UpdateDomain, sets_of
from harness.results.journal import Journal, entries, fold

#: Beside the time that is asked for: until an approval or the announced time is noticed.
_STAY_S = 20.0


class LeasedNotice:
    """For one run; see :class:`harness.maintenance.notice.Notice`."""

    def __init__(
        self,
        notice: Notice,
        database: FleetDatabase,
        *,
        hold_s: float,
        host: str | None = None,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        """Tell guests by ``notice``.

        Args:
            notice: What announces, and waits until guests may be paused.
            database: Where leases are.
            hold_s: From the pause on a lease lasts at least so long: the budget, the guardian's
                patience, and what is done about clocks.
            host: Who holds; None: this machine's name.
            clock: For how long a lease lasts; the database has one of its own.
        """
        self._notice = notice
        self._database = database
        self._hold_s = hold_s
        self._host = host or platform.node()
        self._clock = clock
        self._journal: Journal | None = None
        self._run_id = ""
        self._taken: set[str] = set()

    def begin(self, plan: Plan, run_dir: Path, journal: Journal) -> None:
        """Write down what will be announced."""
        self._journal, self._run_id = journal, run_dir.name
        self._notice.begin(plan, run_dir, journal)

    def announce(self, domain: UpdateDomain) -> str:
        """Take the leases, then tell the guests. Raises SetLeased, or if there is no database."""
        self._take(domain, 0.0)
        if sets := sets_of(domain.guests):
            self._note(entries.Leased(domain.name, sets, self._database.shown))
        return self._notice.announce(domain)

    def wait(self, domain: UpdateDomain, seconds: float, interruption: Interruption) -> bool:
        """Wait for the permission to pause, with leases that outlast the pause.

        Raises SetLeased where one was lost: it had expired while baselines were taken.
        """
        valid = self._take(domain, seconds)
        may = self._notice.wait(domain, seconds, interruption)
        if may and valid.expired:  # it was waited for longer: a clock was set, or the host slept
            self._take(domain, 0.0)
        return may

    def over(self, domain: UpdateDomain) -> None:
        """Remove the events, then let go; not of sets of which a guest is still held.

        Nor where the events could not be removed: guests on other hosts see them until then.
        """
        try:
            self._notice.over(domain)
        except HarnessError as error:
            self._let_expire(domain, f"its events are there still: {error}")
            raise
        if domain.name not in self._taken:
            return
        self._taken.remove(domain.name)
        sets = sets_of(domain.guests)
        self._note(entries.LeaseReleased(domain.name, sets, self._let_go(domain, sets)))

    def close(self) -> None:
        """Nothing more will happen."""
        self._notice.close()

    def record(self, domain_name: str) -> NoticeRecord | None:
        """Return which guests were notified."""
        return self._notice.record(domain_name)

    def _take(self, domain: UpdateDomain, seconds: float) -> Deadline:
        """Return until when a pause that begins is covered."""
        sets = sets_of(domain.guests)
        valid = Deadline.after(seconds + _STAY_S, self._clock)
        if sets:
            take(
                self._database,
                sets,
                update_domain=domain.name,
                run_id=self._run_id,
                host=self._host,
                seconds=seconds + _STAY_S + self._hold_s,
            )
            self._taken.add(domain.name)
        return valid

    def _let_go(self, domain: UpdateDomain, sets: tuple[str, ...]) -> str:
        """Return why the leases are left to expire; "" if they are gone. Never raises ours."""
        try:
            stuck = self._held() & {guest.info.uuid for guest in domain.guests}
            if stuck:
                return "a guest of the update domain is not back"
            release(self._database, sets, self._run_id)
        except HarnessError as error:
            return str(error)
        return ""

    def _let_expire(self, domain: UpdateDomain, why: str) -> None:
        if domain.name in self._taken:
            self._taken.remove(domain.name)
            self._note(entries.LeaseReleased(domain.name, sets_of(domain.guests), why))

    def _held(self) -> set[str]:
        if self._journal is None:
            return set()
        return {member.uuid for member in fold(self._journal.read()).held}

    def _note(self, entry: entries.Entry) -> None:
        if self._journal is not None:
            self._journal.note(entry)
