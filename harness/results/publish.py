"""What is made of a finished run when its guests are well: the report and the row in the history.

It needs libraries that are slow to load, and nothing of it may change how the run ended. So it is a
process of its own, started when everything else is over:
``python -P -m harness.results.publish FOLDER``.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from harness.core.errors import HarnessError
from harness.core.extras import require
from harness.core.files import write_atomically
from harness.core.process_state import python_module, settle_process
from harness.results.folder import RunFolder

#: A hundred guests take five seconds.
LIMIT_S = 60.0


def write_html(folder: RunFolder) -> Path:
    """Write ``report.html`` and return where it is. Raises HarnessError."""
    require("reports", "report.html")
    from harness.results.report.html import FILE_NAME, render

    write_atomically(folder.path / FILE_NAME, render(folder))
    return folder.path / FILE_NAME


def remember(folder: RunFolder) -> None:
    """Put the run into the history. Raises HarnessError."""
    require("history", "the history of runs")
    from harness.results.history.store import History

    with History.open() as history:
        history.add(folder)


def finish(folder: RunFolder) -> list[str]:
    """Do all of it in a process of its own; what did not work, in words. Never raises."""
    command = python_module("harness.results.publish", str(folder.path))
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=LIMIT_S
        )
    except (OSError, subprocess.SubprocessError) as error:
        return [f"no report was written: {error}"]
    if done.returncode == 0:
        return []
    said = done.stderr.decode(errors="replace").strip().splitlines()
    return said[-4:] or [f"no report: status {done.returncode}"]


def main(arguments: list[str]) -> int:
    """The process: 0 if all of it worked; what did not is reported on stderr, a line each."""
    folder = RunFolder(Path(arguments[0]))
    steps: list[tuple[str, Callable[[RunFolder], object]]] = [
        ("report.html was not written", write_html),
        ("the run is not in the history", remember),
    ]
    failures = 0
    for failed, step in steps:
        try:
            step(folder)
        except HarnessError as error:
            failures += 1
            sys.stderr.write(f"{failed}: {error}\n")
        except Exception as error:  # noqa: BLE001 - one must not cost the other
            failures += 1
            sys.stderr.write(f"{failed}: {type(error).__name__}: {error}\n")
    return 1 if failures else 0


if __name__ == "__main__":
    settle_process()
    sys.exit(main(sys.argv[1:]))
