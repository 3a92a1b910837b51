"""A host in memory: what harness itself costs with more guests than a small machine can emulate.

    python -P -m benchmarks.scale.memory GUESTS

Every call of libvirt takes ``CALL_S``, every answer of a guest ``ANSWER_S``; a process of its own,
so that its memory is that of so many guests.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import threading
import time
from functools import partial
from pathlib import Path

from benchmarks.memory import most_memory_mib
from harness.core.config import load
from harness.maintenance.run import run
from harness.maintenance.survey import survey
from harness.testing.connector import FakeConnector
from harness.testing.guard import FakeGuard
from harness.testing.guest import FakeGuest
from harness.testing.host import FakeHost
from harness.updates.configured import make_update
from harness.updates.registry import FULL_CONFIG

CALL_S, ANSWER_S = 0.001, 0.0005
_EVERY_S = 0.02
#: What needs nothing in a guest but its clock and its facts: the rest is the guest's own work.
_CHECKS = ("pause-window", "frozen", "lag", "clock", "same-boot", "same-process", "kernel-log")


def maintain(count: int) -> dict[str, float]:
    """Return the figures of one maintenance of so many guests in one update domain."""
    guests = [FakeGuest(f"g{number}") for number in range(count)]
    host = FakeHost(*guests)
    for guest in guests:
        guest.way_s = ANSWER_S
        for call in ("pause", "resume"):
            host.before[call, guest.name] = partial(time.sleep, CALL_S)
    flags = {
        "update.duration_s": 0.5,
        "update.scope": "host",
        "budget_s": 120.0,
        "resume_reserve_s": 30.0,
        "prepare_timeout_s": 300.0,
        "mend_timeout_s": 300.0,
        "checks.enable": list(_CHECKS),
    }
    config = load(None, environment={}, flags=flags, model=FULL_CONFIG).config
    connector = FakeConnector({guest.name: guest for guest in guests})
    with tempfile.TemporaryDirectory(prefix="harness-bench-") as folder:
        os.environ["HARNESS_LOCK_DIR"] = folder
        state_dir = Path(folder) / "state"
        update = make_update(config.updates, config.uri, state_dir)
        began_s, cpu_s = time.monotonic(), time.process_time()
        plan = survey(config, [guest.name for guest in guests], host, update)
        finished = run(
            config, plan, update, host, connector,
            state_dir=state_dir, guardian=lambda *_: FakeGuard(),
        )  # fmt: skip
        took = {"total_s": time.monotonic() - began_s, "cpu_s": time.process_time() - cpu_s}
    domain = finished.record.update_domains[0]
    windows = [guest.stale_clock_window_s or 0.0 for guest in finished.record.guests]
    return {
        **took,
        "overhead_ms": 1000 * (domain.overhead_s or 0.0),
        "stale_ms": 1000 * max(windows),
        "memory_mib": most_memory_mib("self"),
        "passed": float(sum(guest.outcome == "pass" for guest in finished.record.guests)),
    }


def main() -> None:
    """Print one maintenance's figures as JSON."""
    peak, over = 0, threading.Event()

    def look() -> None:
        nonlocal peak
        while not over.wait(_EVERY_S):
            peak = max(peak, threading.active_count() - 1)

    looking = threading.Thread(target=look)
    looking.start()
    try:
        found = maintain(int(sys.argv[1]))
    finally:
        over.set()
        looking.join()
    print(json.dumps({**found, "threads": peak}))


if __name__ == "__main__":
    main()
