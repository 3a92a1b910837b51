"""Ways to carry out one maintenance, each measured alike: harness, a virsh script, libvirt-guests.

Every contender is a process of its own that pauses the guests, runs the same update, resumes them
and sets their clocks. What the guests' clocks are afterwards is measured by somebody else.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.cost import measured
from harness.checks import CHECKS
from harness.lab.state import lab_dir

UPDATE_S = 0.5
UPDATE = f"sleep {UPDATE_S}"
_SCRIPT = Path(__file__).with_name("virsh-maintenance.sh")
_LIBVIRT_GUESTS = "/usr/lib/libvirt/libvirt-guests.sh"


@dataclass(frozen=True)
class Done:
    """One maintenance as its own process; milliseconds unless the name says otherwise."""

    total_s: float
    cpu_s: float
    """User and system time of the process and of all it waited for."""
    memory_mib: float
    """The largest of its processes."""
    overhead_ms: float | None
    """Pause window minus update; of a kind that cannot tell them apart: all but the update."""
    stale_ms: float | None
    """From a guest's resume to the end of the correction of its clock; the worst guest."""
    pausing_ms: float | None = None
    """Of the overhead: until all guests are paused."""
    resuming_ms: float | None = None
    """Of the overhead: until all guests run again."""
    broken: tuple[str, ...] = ()
    """Promises that harness itself found broken; the others look for none."""


Contender = Callable[[Sequence[str]], Done]


def harness(guests: Sequence[str]) -> Done:
    """``harness run`` with all its checks."""
    return _harness(guests, tuple(CHECKS))


def unwatched(guests: Sequence[str]) -> Done:
    """``harness run`` with every check that needs nobody to watch, in the guest or from here.

    The others watch nothing, and what watches is work for emulated guests on few cores.
    """
    return _harness(guests, tuple(name for name, check in CHECKS.items() if check.needs is None))


def _harness(guests: Sequence[str], checks: Sequence[str]) -> Done:
    """What it says of itself is in its record. Without the page, for which nobody waits."""
    options = ("--update", UPDATE, "--allow-backward", "--no-report", "--json")
    command = [sys.executable, "-P", "-m", "harness", "run", *guests, *options]
    # Broken promises, and what cannot be judged on a machine with so many guests, are counted.
    out, cost = measured([*command, "-c", str(_configured(checks))], codes=(0, 1, 3))
    record = json.loads(out)
    if not record["update_domains"]:  # as where a machine is too busy to log in in time
        raise SystemExit(f"harness: nothing was paused: {record.get('error') or out[-2000:]}")
    windows = [guest["stale_clock_window_s"] for guest in record["guests"]]
    domain = record["update_domains"][0]
    return Done(
        **vars(cost),
        overhead_ms=1000 * domain["overhead_s"],
        pausing_ms=1000 * domain["pausing_s"],
        resuming_ms=1000 * domain["resuming_s"],
        stale_ms=None if None in windows else 1000 * max(windows),
        broken=tuple(
            f"{guest['name']}: {check['name']}: {check['detail']}"
            for guest in record["guests"]
            for check in guest["checks"]
            if check["outcome"] in ("fail", "error")
        ),
    )


def _configured(checks: Sequence[str]) -> Path:
    """The lab's configuration, with these checks."""
    labs = lab_dir() / "harness.toml"
    file = labs.with_name("bench.toml")
    file.write_text(f"{labs.read_text()}\n[checks]\nenable = {json.dumps(checks)}\n")
    return file


def virsh_script(guests: Sequence[str]) -> Done:
    """``virsh suspend``, the update, ``virsh resume``, ``virsh domtime --sync``, one by one."""
    out, cost = measured([str(_SCRIPT), UPDATE, *guests])
    at = {name: float(stamp) for name, _, stamp in (line.partition(" ") for line in out.split("\n"))
          if stamp}  # fmt: skip
    window_s = at["resumed"] - at["pausing"]
    stale_s = max(at[f"synced:{guest}"] - at[f"resumed:{guest}"] for guest in guests)
    overhead_s = window_s - (at["updated"] - at["updating"])
    return Done(**vars(cost), overhead_ms=1000 * overhead_s, stale_ms=1000 * stale_s)


def libvirt_guests(guests: Sequence[str]) -> Done:
    """libvirt's own script: RAM to disk and back, ``SYNC_TIME=1``. All guests of the host."""
    code = f"{_LIBVIRT_GUESTS} stop && {UPDATE} && {_LIBVIRT_GUESTS} start"
    _, cost = measured(["sh", "-c", code])
    return Done(**vars(cost), overhead_ms=1000 * (cost.total_s - UPDATE_S), stale_ms=None)


CONTENDERS: dict[str, Contender] = {
    "harness": harness,
    "harness, unwatched": unwatched,
    "virsh script": virsh_script,
    "libvirt-guests": libvirt_guests,
}
