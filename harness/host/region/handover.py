"""Is a handover pending? Then the region holds the RAM of guests that wait to be brought back.

A host that hands guests over to another kernel writes the file, and it is on the disk, before the
first of them is parked; it goes when none of them needs what is in the region any more. While it is
there no boot makes the region's file system again.
"""

from __future__ import annotations

from pathlib import Path

#: On the root file system, where both kernels find it, before any other is mounted.
HANDOVER = Path("/var/lib/harness/handover")


def is_pending(file: Path = HANDOVER) -> bool:
    """Return True unless it is certain that no handover is pending."""
    try:
        file.lstat()
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return True
