"""Bare libvirt calls on guests that are watched as a run watches them: what that alone costs."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from benchmarks.compare import floor
from benchmarks.compare.lab import Bench
from harness.core.fanout import fan_out
from harness.core.settings import ChecksSection
from harness.core.timebase import Deadline
from harness.maintenance.before_pause import take_baselines

_LIMIT_S = 600.0


def api_ms(lab: Bench, guests: Sequence[str]) -> dict[str, float]:
    """Return what :func:`benchmarks.compare.floor.api_ms` does, with all probes at work."""
    sessions = {name: lab.sessions[name] for name in guests}
    deadline = Deadline.after(_LIMIT_S)
    with tempfile.TemporaryDirectory() as folder:
        take_baselines(sessions, ChecksSection(), Path(folder), deadline)
        probes = {name: one.probes for name, one in sessions.items() if one.probes is not None}
        took = floor.api_ms(lab.connection, guests, list(probes.values()))
        stops = {name: partial(one.stop, deadline) for name, one in probes.items()}
        fan_out(stops, deadline, what="asking probes")
    return took
