"""Promise: the guest lives in the same QEMU process, or in the one that was to take it over."""

from __future__ import annotations

from harness.checks.evidence import Evidence, unknown
from harness.core.records import CheckRecord, Outcome
from harness.host.protocol import ProcessIdentity

NAME = "same-process"


def judge(evidence: Evidence) -> CheckRecord:
    """Pid and start time of QEMU before and after; or of the one that this run started for it.

    SKIP where the process could not be seen beforehand (remote host, no right): that is a lack
    of evidence known before the pause, not a broken promise. ERROR where it could not be looked at
    afterwards: only one that was seen to have ended is gone.
    """
    before, after = evidence.before.process, evidence.after.process
    if before is None:
        return CheckRecord(
            name=NAME, outcome=Outcome.SKIP, detail="QEMU's process is not visible from here"
        )
    if after is None and not evidence.after.process_ended:
        return unknown(NAME, "QEMU's process could not be looked at after the pause")
    planned, detail = before, ""
    if evidence.swapped is not None:
        planned, detail = evidence.swapped.process or before, f"took over from {_shown(before)}"
    return CheckRecord(
        name=NAME,
        outcome=Outcome.PASS if planned == after else Outcome.FAIL,
        measured=_shown(after),
        allowed=_shown(planned),
        unit="pid@start",
        detail=detail,
    )


def _shown(process: ProcessIdentity | None) -> str:
    return f"{process.pid}@{process.start_ticks}" if process else "gone"
