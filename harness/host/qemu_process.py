"""Which process is a guest: QEMU's pid and start time, found by the guest's UUID."""

from __future__ import annotations

import os
from pathlib import Path

from harness.core.process_stat import start_ticks
from harness.host.protocol import ProcessIdentity


def find_process(uuid: str, proc: Path = Path("/proc")) -> ProcessIdentity | None:
    """The QEMU process that was started with ``-uuid UUID``, or None if none is visible."""
    wanted = uuid.encode()
    for name in os.listdir(proc):
        if not name.isdecimal():
            continue
        try:
            arguments = (proc / name / "cmdline").read_bytes().split(b"\0")
            if b"-uuid" in arguments and arguments[arguments.index(b"-uuid") + 1] == wanted:
                return ProcessIdentity(int(name), start_ticks(int(name), proc))
        except (OSError, IndexError):
            continue  # it ended while we looked, or is not ours to look at
    return None
