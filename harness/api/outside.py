"""A maintenance that another machine carries out, because it does not outlive that one's kernel."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from harness.api.backend import Backend
from harness.core import paths
from harness.core.config import Loaded
from harness.core.errors import GuestStranded, HarnessError, InfrastructureError, UsageError
from harness.core.timebase import Clock, utc_now
from harness.fleet.outside.place import Place, place_of, words_for
from harness.guest.protocol import Connector
from harness.results.folder import RunFolder, new_run_id
from harness.results.journal import FILE_NAME

if TYPE_CHECKING:  # what every run loads that is carried out here
    from harness.fleet.outside.follow import Followed, Follower, HostAway
    from harness.fleet.outside.watch import Watch
    from harness.maintenance.run import Finished
    from harness.results.answer import Answer

_REFUSED_CODES = (2, 6)


@dataclass(frozen=True)
class Outside:
    """One maintenance of a host that carries it out itself, started from here."""

    loaded: Loaded
    guests: tuple[str, ...]
    rollout: str
    """The ID by which the host has the run."""
    place: Place
    run_id: str
    """Of the record, where the host gives none."""

    @classmethod
    def of(cls, loaded: Loaded, guests: Sequence[str], rollout: str | None = None) -> Outside:
        """Return it; nothing is begun. Raises ConfigError for a URI that cannot be used.

        ``guests``: as :func:`harness.api.maintain` has them; none: those of the configuration here,
        else those of the host's own. ``rollout``: None: an ID of its own.
        """
        run_id = new_run_id()
        named = tuple(guests) or tuple(one.name for one in loaded.config.guest)
        where = place_of(loaded.config.uri, loaded.config.updates)
        return cls(loaded, named, rollout or f"outside-{run_id}", where, run_id)

    @property
    def left_here(self) -> Sequence[str]:
        """Keys that are set here and do not go along: the host's own count."""
        from harness.fleet.outside.carried import left_here

        return left_here(self.loaded)

    @property
    def by_hand(self) -> str:
        """What a person types to see the run on the host."""
        return " ".join([*words_for(self.place), "harness", "report"])

    def plan(self, say: Callable[[str], object], backend: Backend | None = None) -> Answer:
        """Ask the host for its plan; nothing is touched. Raises HarnessError."""
        from harness.fleet.outside import merge

        backend = backend or Backend.real()
        follower = self._follower(backend, say)
        follower.meet()
        answer = follower.follow(self._words("plan")).answer
        merge.expect_own(answer, self.rollout, self.place)
        if answer.plan is None:
            raise _refusal(answer, self.place)
        return answer

    def maintain(
        self,
        say: Callable[[str], object],
        *,
        state_dir: Path | None = None,
        backend: Backend | None = None,
    ) -> tuple[Finished, Answer | None]:
        """Have the host carry it out, follow it over its kexec, and keep its record here.

        Args:
            say: Gets what a person should read while it goes on.
            state_dir: Where the run folder is made; None: that of the command line.
            backend: None: SSH, and this machine's clock.

        Returns:
            The record, which has what was seen from here, in a run folder of this machine; and what
            the host answered, None where it did not come back: then the record is an ERROR.

        Raises:
            HarnessError: What fails before a guest is paused; what the host answered is of another
                run, or cannot be understood.
        """
        from harness.fleet.outside.follow import HostAway
        from harness.fleet.outside.watch import Watch

        backend = backend or Backend.real()
        state_dir = state_dir or paths.state_dir()
        started_at = utc_now(backend.clock)
        follower = self._follower(backend, say)
        with closing(Watch(clock=backend.clock)) as watch:
            reached = follower.meet()
            watch.host(self.place.host, reached.way.peer, reached.own_address)
            watch.guests(self._addresses(backend.connector))
            say(
                f"{self.place.host} carries it out as rollout {self.rollout}; it goes on there "
                f"without this command; its own result: {self.by_hand}"
            )
            try:
                followed = follower.follow(self._words("run", "--detach"))
            except HostAway as error:
                return self._away(error, watch, state_dir, started_at, backend.clock), None
            return self._kept(followed, watch, state_dir), followed.answer

    def _follower(self, backend: Backend, say: Callable[[str], object]) -> Follower:
        from harness.fleet.outside.follow import Follower

        return Follower(
            self.place,
            backend.connector,
            return_s=self.loaded.config.outside.return_s,
            say=say,
            clock=backend.clock,
        )

    def _words(self, command: str, *more: str) -> Sequence[str]:
        from harness.fleet.outside.carried import carried

        settings = json.dumps(carried(self.loaded))
        asked = ("--rollout", self.rollout, "--uri", self.place.local_uri, "--settings", settings)
        return (command, *more, "--json", *asked, "--", *self.guests)

    def _addresses(self, connector: Connector) -> Mapping[str, str]:
        """Addresses of guests as this machine knows them, by name."""
        from harness.fleet.outside.watch import is_address

        own: dict[str, str | None] = {
            one.name: one.address for one in self.loaded.config.guest if one.address
        }
        for name in self.guests:
            if name not in own and name.isprintable() and name[:1] not in ("!", "-"):
                own[name] = connector.configured_address(name)
        return {name: one for name, one in own.items() if one is not None and is_address(one)}

    def _kept(self, followed: Followed, watch: Watch, state_dir: Path) -> Finished:
        from harness.fleet.outside import merge
        from harness.maintenance.run import Finished

        answer = followed.answer
        merge.expect_own(answer, self.rollout, self.place)
        if answer.record is None or (answer.error is not None and not answer.record.guests):
            raise _refusal(answer, self.place)
        folder = RunFolder(state_dir / "runs" / answer.record.run_id)
        paused = any(one.still_paused for one in answer.record.guests)
        error = _refusal(answer, self.place) if answer.error is not None or paused else None
        if (folder.path / FILE_NAME).exists():  # the host is this machine: it is there already
            return Finished(answer.record, folder, error)
        record = merge.merged(
            answer.record, answer, self.place, watch.told(), followed.unreachable_s
        )
        if not folder.path.exists():
            folder = RunFolder.create(state_dir, record.run_id)
        folder.write_config(self.loaded.config)
        folder.write_record(record)
        return Finished(record, folder, error)

    def _away(
        self, error: HostAway, watch: Watch, state_dir: Path, started_at: datetime, clock: Clock
    ) -> Finished:
        from harness.fleet.outside import merge
        from harness.maintenance.run import Finished

        error.hint = f"{error.hint}; the same command here with --rollout {self.rollout} asks again"
        record = merge.unfinished(
            self.run_id,
            error,
            self.place,
            self.rollout,
            watch.told(patience_s=0.0),
            kind=self.loaded.config.update.kind,
            budget_s=self.loaded.config.budget_s,
            started_at=started_at,
            finished_at=utc_now(clock),
        )
        folder = RunFolder.create(state_dir, self.run_id)
        folder.write_config(self.loaded.config)
        folder.write_record(record)
        return Finished(record, folder, error)


def _refusal(answer: Answer, place: Place) -> HarnessError:
    """Return what the host answered as an error of this machine, with the exit code it has here."""
    record, error = answer.record, answer.error
    stranded = [one for one in record.guests if one.still_paused] if record is not None else []
    if stranded:
        return GuestStranded(
            [one.name for one in stranded], [f"{place.host}: {one.resume_hint}" for one in stranded]
        )
    kind = UsageError if answer.exit_code in _REFUSED_CODES else InfrastructureError
    if error is None:
        return kind(f"{place.host} ended with exit code {answer.exit_code} and said nothing")
    return kind(f"{place.host}: {error.message}", guest=error.guest, hint=error.hint)
