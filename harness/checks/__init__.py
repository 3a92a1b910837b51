"""What must still be true after the pause: one promise a module, each judged measured vs allowed.

A check is a pure function of the :class:`~harness.checks.evidence.Evidence` about one guest. To
add one, write its module with a ``judge`` and add it to ``CHECKS``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from harness.checks import (
    clock_offset,
    clock_watch,
    frozen,
    kernel_log,
    lag,
    pause_window,
    same_boot,
    same_process,
)
from harness.checks.evidence import Evidence
from harness.records import CheckRecord

Check = Callable[[Evidence], CheckRecord]

#: In the order in which people read them.
CHECKS: Mapping[str, Check] = {
    pause_window.NAME: pause_window.judge,
    clock_offset.NAME: clock_offset.judge,
    clock_watch.NAME: clock_watch.judge,
    lag.NAME: lag.judge,
    frozen.NAME: frozen.judge,
    same_boot.NAME: same_boot.judge,
    same_process.NAME: same_process.judge,
    kernel_log.NAME: kernel_log.judge,
}


def judge_all(evidence: Evidence) -> tuple[CheckRecord, ...]:
    """Every check's verdict on one guest; the watch is a promise only where it was asked for."""
    asked = [name for name in CHECKS if name != clock_watch.NAME or evidence.watch_asked]
    return tuple(CHECKS[name](evidence) for name in asked)
