"""Write docs/images: the live view and the page of a real run, for README and documentation.

``make pictures`` boots three guests for this, runs a maintenance on them, and removes them.
"""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image
from rich.console import Console

from harness import api
from harness.cli.live import LiveView
from harness.core.timebase import Deadline
from harness.lab import guests as labs
from harness.lab import state
from harness.lab.specs import default_specs
from harness.maintenance.plan import Plan
from harness.maintenance.progress import Observer, Phase, Step

IMAGES = Path(__file__).resolve().parent.parent / "docs" / "images"
_PAGE_SIZE = (1000, 1000)
#: So long into the pause of the last update domain.
_INTO_THE_PAUSE_S = 3.0
_BROWSER = [
    *("chromium", "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"),
    *("--no-proxy-server", "--no-first-run", "--hide-scrollbars", "--virtual-time-budget=2000"),
]


@contextmanager
def photographed(plan: Plan) -> Iterator[Observer]:
    """Watch a run as ``harness run`` does, and keep the live view of a moment in its last pause."""
    view = LiveView(plan, 30.0, 2.0)
    timer = threading.Timer(_INTO_THE_PAUSE_S, _keep, [view])

    def observe(step: Step) -> None:
        view.observe(step)
        if step.phase is Phase.PAUSED and step.domain == plan.domains[-1].name:
            timer.start()

    yield observe
    if not timer.finished.wait(60):
        raise SystemExit("pictures: the last update domain was not paused")


def _keep(view: LiveView) -> None:
    console = Console(record=True, width=96, file=io.StringIO(), force_terminal=True)
    console.print(view)
    svg = console.export_svg(title="harness run")
    svg = re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL)  # fonts from elsewhere
    (IMAGES / "live-view.svg").write_text(svg, encoding="utf-8")


def draw_page(run_folder: Path) -> None:
    """Write ``report.png``: the top of the run's page, as a browser shows it."""
    report = [sys.executable, "-P", "-m", "harness", "report", str(run_folder), "--format", "html"]
    subprocess.run(report, check=True, timeout=120)
    with tempfile.TemporaryDirectory() as folder:
        shot = Path(folder) / "shot.png"
        width, height = _PAGE_SIZE
        subprocess.run(
            [
                *_BROWSER,
                f"--user-data-dir={folder}/profile",
                f"--window-size={width},{height}",
                f"--screenshot={shot}",
                (run_folder / "report.html").as_uri(),
            ],
            check=True,
            timeout=120,
            stderr=subprocess.DEVNULL,
        )
        # A page has few colours; with 64 of them it is a third as large.
        with Image.open(shot) as picture:
            picture.convert("RGB").quantize(64).save(IMAGES / "report.png", optimize=True)


def main() -> int:
    """Boot a lab, run, draw, take it down. Return the exit code of the run."""
    IMAGES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["HARNESS_STATE_DIR"] = folder
        labs.up(default_specs(3, "debian"), deadline=Deadline.after(600), progress=print)
        try:
            config = api.load_config(state.lab_config_file()).config
            run = api.maintain(config, observe=photographed)
            draw_page(run.folder.path)
        finally:
            labs.down(print)
    return run.record.exit_code


if __name__ == "__main__":
    sys.exit(main())
