"""What hosts said to ``harness plan --json`` → what the order of hosts depends on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.core.errors import PlanError, UsageError
from harness.fleet.waves import Wave

#: As ``outcome`` of an answer has it.
_NOT_NEEDED = "not-needed"


@dataclass(frozen=True)
class HostPlan:
    """The plan of one host; ``sets`` are the availability sets whose guests it would pause."""

    sets: frozenset[str]
    guests: int
    not_needed: str | None = None
    """Why the host is left out: there is nothing to do on it."""


def read_plan(host: str, document: Any) -> HostPlan:
    """Return what a host planned, from the plan itself or from the answer under a rollout.

    Raises PlanError where the host refused, UsageError for a document that is neither.
    """
    answer = document if isinstance(document, Mapping) else {}
    error = answer.get("error")
    if isinstance(error, Mapping):
        said = str(error.get("message"))
        if answer.get("outcome") == _NOT_NEEDED:
            return HostPlan(frozenset(), 0, not_needed=said)
        raise PlanError(f"host {host} refused: {said}", hint=_text(error.get("hint")))
    plan = answer.get("plan") or answer
    try:
        guests = [
            guest
            for window in (plan, *plan.get("later", ()))
            for domain in window["update_domains"]
            for guest in domain["guests"]
        ]
        names = {str(guest["name"]) for guest in guests}
        sets = {guest["availability_set"] for guest in guests}
    except (LookupError, TypeError, AttributeError) as wrong:
        raise UsageError(
            f"host {host}: this is no plan", hint="write it with: harness plan --json"
        ) from wrong
    return HostPlan(frozenset(str(one) for one in sets if one is not None), len(names))


def changes_since(
    kept: Mapping[str, HostPlan], now: Mapping[str, HostPlan], waves: Sequence[Wave]
) -> Iterator[str]:
    """Yield what is different by now and matters to the waves that are kept.

    Args:
        kept: What each host planned when the waves were made.
        now: What hosts plan now.
        waves: The waves that were made then.
    """
    for host, plan in now.items():
        if kept[host].not_needed is not None and plan.not_needed is None:
            yield f"host {host} was left out, and has guests to maintain now"
    for number, wave in enumerate(waves, 1):
        first: dict[str, str] = {}
        for host in wave.hosts:
            for name in sorted(now[host].sets if host in now else ()):
                if first.setdefault(name, host) != host:
                    yield (
                        f"hosts {first[name]} and {host} of wave {number} both have guests of "
                        f"availability set {name} now; its lease lets one of them begin"
                    )


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None
