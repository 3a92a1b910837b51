"""The user's own promises: executables whose exit status is the outcome. Named ``own:NAME``."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from harness.checks.evidence import Evidence, Missing, missing
from harness.core.records import CheckRecord, Outcome

PREFIX = "own:"
#: 77 is what test programs have long used for "skipped" (automake).
_OUTCOMES = {0: Outcome.PASS, 1: Outcome.FAIL, 77: Outcome.SKIP}


@dataclass(frozen=True)
class Ended:
    """How one executable ended in one stage; None: it did not end in time, or did not start."""

    stage: str
    status: int | None
    problem: str | None = None

    @property
    def outcome(self) -> Outcome:
        """0 PASS, 1 FAIL, 77 SKIP; everything else, a signal too, could not judge."""
        if self.status is None:
            return Outcome.ERROR
        return _OUTCOMES.get(self.status, Outcome.ERROR)


@dataclass(frozen=True)
class OwnChecks:
    """By name, every stage that was run."""

    ended: dict[str, tuple[Ended, ...]]


def judge(evidence: Evidence) -> Iterator[CheckRecord]:
    """A record for each; the worst stage counts, but a SKIP before the pause skips it all."""
    seen = evidence.told(OwnChecks)
    ended = {} if isinstance(seen, Missing) else seen.ended
    for name in evidence.own_asked:
        if name not in ended:
            gap = seen if isinstance(seen, Missing) else Missing("was not run", known_before=False)
            yield missing(PREFIX + name, gap)
    for name, stages in ended.items():
        worst = Outcome.worst(stage.outcome for stage in stages)
        told = ", ".join(f"{s.stage}: {_status(s)}" for s in stages)
        statuses = [stage.status for stage in stages if stage.outcome is worst]
        yield CheckRecord(
            name=PREFIX + name,
            outcome=worst,
            measured=statuses[0],
            allowed=0,
            unit="exit status",
            detail=told,
        )


def _status(stage: Ended) -> str:
    return stage.problem or f"exit {stage.status}"
