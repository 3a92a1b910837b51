"""What is made of a finished run when its guests are well: the report and the row in the history.

It needs libraries that are slow to load, and nothing of it may change how the run ended. So it is a
process of its own, started when everything else is over:
``python -P -m harness.results.publish FOLDER``.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

from harness.core.errors import HarnessError
from harness.core.extras import require
from harness.core.files import write_atomically
from harness.core.process_state import python_module, settle_process
from harness.results.folder import RunFolder

#: A hundred guests take five seconds; on a busy host under emulation, two take a minute.
LIMIT_S = 300.0


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


@dataclass(frozen=True)
class Step:
    """One of what is made; ``by_hand``: the command that makes it afterwards."""

    name: str
    make: Callable[[RunFolder], object]
    failed: str
    by_hand: str


#: The short one first: where there is no time for both, the run is in the history.
STEPS = (
    Step("row", remember, "the run is not in the history", "harness history import"),
    Step("page", write_html, "report.html was not written", "harness report --format html"),
)


def finish(folder: RunFolder) -> list[str]:
    """Do all of it in a process of its own; what did not work, in words. Never raises."""
    command = python_module("harness.results.publish", str(folder.path))
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=LIMIT_S
        )
    except subprocess.TimeoutExpired as late:
        return _not_made(folder, (late.stdout or b"").decode().split())
    except (OSError, subprocess.SubprocessError) as error:
        return [f"no report was written: {error}"]
    if done.returncode == 0:
        return []
    said = done.stderr.decode(errors="replace").strip().splitlines()
    return said[-4:] or [f"no report: status {done.returncode}"]


def _not_made(folder: RunFolder, made: Collection[str]) -> list[str]:
    given_up = f"given up after {LIMIT_S:.0f} s"
    return [
        f"{step.failed}: {given_up}; {step.by_hand} {folder.path} makes up for it"
        for step in STEPS
        if step.name not in made
    ]


def main(arguments: list[str]) -> int:
    """The process: 0 if all of it worked; what did not is reported on stderr, a line each.

    The name of what did is a line of stdout, as soon as it is made.
    """
    folder = RunFolder(Path(arguments[0]))
    failures = 0
    for step in STEPS:
        try:
            step.make(folder)
            print(step.name, flush=True)  # noqa: T201 - told to the process that waits
        except HarnessError as error:
            failures += 1
            sys.stderr.write(f"{step.failed}: {error}\n")
        except Exception as error:  # noqa: BLE001 - one must not cost the other
            failures += 1
            sys.stderr.write(f"{step.failed}: {type(error).__name__}: {error}\n")
    return 1 if failures else 0


if __name__ == "__main__":
    settle_process()
    sys.exit(main(sys.argv[1:]))
