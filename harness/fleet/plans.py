"""What hosts said to ``harness plan --json`` → what the order of hosts depends on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from harness.core.errors import PlanError, UsageError

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


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None
