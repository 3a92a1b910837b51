"""What is made of a finished run when its guests are well: the report and the row in the history.

It needs libraries that are slow to load, and nothing of it may change how the run ended. So it is a
process of its own, started when everything else is over:
``python -P -m harness.results.publish FOLDER``.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from harness.core.errors import HarnessError
from harness.core.extras import require
from harness.core.files import write_atomically
from harness.core.pasteable import command
from harness.core.process_state import python_module, settle_process
from harness.results.folder import RunFolder

#: A hundred guests take five seconds; an emulated host beside other work, many times as long.
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
    """One of what is made, the warning where it is not, and the command that makes it then."""

    make: Callable[[RunFolder], object]
    failed: str
    by_hand: tuple[str, ...]


#: The short one first: where there is no time for both, the run is in the history.
STEPS = (
    Step(remember, "the run is not in the history", ("harness", "history", "import")),
    Step(write_html, "report.html was not written", ("harness", "report", "--format", "html")),
)


def finish(folder: RunFolder) -> list[str]:
    """Do all of it in a process of its own; what did not work, in words. Never raises."""
    process = python_module("harness.results.publish", str(folder.path))
    try:
        done = subprocess.run(
            process, stdin=subprocess.DEVNULL, capture_output=True, timeout=LIMIT_S
        )
    except subprocess.TimeoutExpired as late:
        over = (late.stdout or b"").count(b"\n")
        return [*_lines(late.stderr or b""), *(_given_up(step, folder) for step in STEPS[over:])]
    except (OSError, subprocess.SubprocessError) as error:
        return [f"no report was written: {error}"]
    if done.returncode == 0:
        return []
    return _lines(done.stderr)[-4:] or [f"no report: status {done.returncode}"]


def _lines(said: bytes) -> list[str]:
    return said.decode(errors="replace").strip().splitlines()


def _given_up(step: Step, folder: RunFolder) -> str:
    by_hand = command(*step.by_hand, str(folder.path))
    return f"{step.failed}: given up after {LIMIT_S:.0f} s; {by_hand} makes up for it"


def main(arguments: list[str]) -> int:
    """The process: 0 if all of it worked; what did not is reported on stderr, a line each.

    A line of stdout for each step that is over, well or not.
    """
    folder = RunFolder(Path(arguments[0]))
    failures = 0
    for step in STEPS:
        try:
            step.make(folder)
        except HarnessError as error:
            failures += 1
            sys.stderr.write(f"{step.failed}: {error}\n")
        except Exception as error:  # noqa: BLE001 - one must not cost the other
            failures += 1
            sys.stderr.write(f"{step.failed}: {type(error).__name__}: {error}\n")
        sys.stdout.write("\n")
        sys.stdout.flush()
    return 1 if failures else 0


if __name__ == "__main__":
    settle_process()
    sys.exit(main(sys.argv[1:]))
