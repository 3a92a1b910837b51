"""Promise: libvirt told of what the run did to the guest, in that order, and of nothing else.

One pause is one ``suspended`` and one ``resumed``. A guest whose QEMU is replaced in between stops
and starts as well. One more event is something that happened to the guest and was not asked for:
it ran in the middle of the pause, or was paused once more; one that is missing did not happen.
"""

from __future__ import annotations

from harness.checks.evidence import Evidence
from harness.core.records import CheckRecord, Outcome

NAME = "libvirt-events"

_PAUSE = ("suspended", "resumed")
#: Saved and restored: the QEMU that takes a guest over tells that the guest is paused, too.
_REPLACED = ("suspended", "stopped", "started", "suspended", "resumed")


def judge(evidence: Evidence) -> CheckRecord:
    """The lifecycle events of the guest since the pause began, against those of the update's kind.

    SKIP where some may have been missed, because libvirtd went away in between.
    """
    if evidence.events is None:
        lost = "the connection that listens broke in between, so events may be missing"
        return CheckRecord(name=NAME, outcome=Outcome.SKIP, detail=lost)
    promised = _PAUSE if evidence.swapped is None else _REPLACED
    return CheckRecord(
        name=NAME,
        outcome=Outcome.PASS if evidence.events == promised else Outcome.FAIL,
        measured=_shown(evidence.events),
        allowed=_shown(promised),
    )


def _shown(events: tuple[str, ...]) -> str:
    return ", ".join(events) or "none"
