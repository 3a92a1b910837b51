"""The most memory that a process had, by what the kernel keeps of it while it lives.

What wait4(2) and getrusage(2) say of a process is no less than its parent had when it was forked:
beside a benchmark that is more than a small run needs.
"""

from __future__ import annotations

import re
from pathlib import Path


def most_memory_mib(pid: int | str) -> float:
    """Return the peak of its resident memory; ``self`` is this process.

    Raises OSError if it is gone.
    """
    found = re.search(r"VmHWM:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())
    return int(found[1]) / 1024 if found else 0.0  # one that has ended has none
