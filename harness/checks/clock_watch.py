"""Promise: the clock stays right; the correction is not undone, and it never runs backwards."""

from __future__ import annotations

from harness.checks.evidence import Evidence, unknown
from harness.core.records import CheckRecord, Outcome

NAME = "watch"


def judge(evidence: Evidence) -> CheckRecord:
    """The worst offset of the watch against the tolerance. SKIP where none was asked for."""
    if not evidence.watch_asked:
        return CheckRecord(name=NAME, outcome=Outcome.SKIP, detail="not asked for (--watch)")
    watch = evidence.watch
    if watch is None:
        return unknown(NAME, "not watched, because the clock was not right to begin with")
    said = [watch.detail, f"{watch.readings} readings in {watch.duration_s:g} s"]
    if watch.drift_ppm is not None and watch.drift_uncertainty_ppm is not None:
        said.append(f"drift {watch.drift_ppm:+.0f} ± {watch.drift_uncertainty_ppm:.0f} ppm")
    return CheckRecord(
        name=NAME,
        outcome=watch.outcome,
        measured=watch.worst_offset_s,
        allowed=evidence.tolerance_s,
        unit="s",
        detail="; ".join(words for words in said if words),
    )
