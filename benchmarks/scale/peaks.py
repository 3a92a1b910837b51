"""The most descriptors and threads that a run and its guardian had at any moment."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_EVERY_S = 0.02
#: So many looks at the two for one at all processes, to find them: that is work for the cores which
#: guests and the run have to share.
_LOOKS = 25


@contextmanager
def watched() -> Iterator[dict[str, int]]:
    """Look again and again at the run that is measured and its guardian.

    When it ends, ``descriptors`` and ``threads`` are there: descriptors of the run, threads of both
    together. Other runs may not go on in this PID namespace.
    """
    peaks = {"descriptors": 0, "threads": 0}
    over = threading.Event()
    looking = threading.Thread(target=_look, args=(peaks, over))
    looking.start()
    try:
        yield peaks
    finally:
        over.set()
        looking.join()


def _look(peaks: dict[str, int], over: threading.Event) -> None:
    looks, known = 0, dict[Path, str]()
    while not over.wait(_EVERY_S):
        if looks % _LOOKS == 0:
            known = _found()
        looks += 1
        here = dict.fromkeys(peaks, 0)
        for process, who in known.items():
            with suppress(OSError):  # it has ended meanwhile
                here["threads"] += len(os.listdir(process / "task"))
                if who == "run":
                    here["descriptors"] = len(os.listdir(process / "fd"))
        peaks.update({name: max(peaks[name], here[name]) for name in peaks})


def _found() -> dict[Path, str]:
    found = {}
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError, ValueError):
            if (who := _who(process)) is not None:
                found[process] = who
    return found


def _who(process: Path) -> str | None:
    words = (process / "cmdline").read_bytes().split(b"\0")
    if b"harness.maintenance.pause.guardian" in words:
        return "guardian"
    return "run" if words[1:5] == [b"-P", b"-m", b"harness", b"run"] else None
