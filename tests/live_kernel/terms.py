"""What a replaced kernel cost its guests, term by term: by the journal, and by the host's console.

The console is stamped outside of the emulated host, with the CPU time of its QEMU: other work on
the machine makes the former longer, and hardly the latter.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any

from benchmarks.kernel.box import Line
from harness.core.timebase import NS_PER_S

#: The first line of the console after `leaving` was written, and those of the next kernel.
_LEFT, _THAW = "sysrq: Emergency Remount", re.compile(r"harness: (.*)")


def table(journal: Iterable[Mapping[str, Any]], console: Sequence[Line]) -> str:
    """One line a term: seconds, CPU seconds where they are known, and what it ended with."""
    stamps: dict[str, list[int]] = {}
    for entry in journal:
        began_ns = entry.get("began_ns") if entry["event"] == "paused" else None
        stamps.setdefault(entry["event"], []).append(began_ns or entry["boottime_ns"])
    frozen_ns, parked_ns = min(stamps["paused"]), max(stamps["parked"])
    left_ns = stamps["leaving"][-1]
    rows = [
        _row((parked_ns - frozen_ns) / NS_PER_S, None, "all guests parked"),
        _row((left_ns - parked_ns) / NS_PER_S, None, "leaving"),
    ]
    left = next(at for at, line in enumerate(console) if _LEFT in line.text)
    said = [line for line in console[left:] if _LEFT in line.text or _THAW.search(line.text)]
    for before, line in pairwise(said):
        found = _THAW.search(line.text)
        what = found[1] if found else line.text
        rows.append(_row(line.at_s - before.at_s, line.cpu_s - before.cpu_s, what))
    here_s = (left_ns - frozen_ns) / NS_PER_S
    whole_s = here_s + said[-1].at_s - said[0].at_s
    rows.append(_row(whole_s, said[-1].cpu_s - said[0].cpu_s, "in all"))
    return "\n".join(rows)


def _row(took_s: float, cpu_s: float | None, what: str) -> str:
    cpu = f"{cpu_s:8.2f} CPU s" if cpu_s is not None else " " * 14
    return f"{took_s:8.2f} s {cpu}  {what}"
