"""Promise: the guest still lives in the same QEMU process, so its RAM was never rebuilt."""

from __future__ import annotations

from harness.checks.evidence import Evidence, unknown
from harness.core.records import CheckRecord, Outcome
from harness.host.protocol import ProcessIdentity

NAME = "same-process"


def judge(evidence: Evidence) -> CheckRecord:
    """Pid and start time of QEMU before and after.

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
    return CheckRecord(
        name=NAME,
        outcome=Outcome.PASS if before == after else Outcome.FAIL,
        measured=_shown(after),
        allowed=_shown(before),
        unit="pid@start",
    )


def _shown(process: ProcessIdentity | None) -> str:
    return f"{process.pid}@{process.start_ticks}" if process else "gone"
