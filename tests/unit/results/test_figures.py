"""Pictures do not depend on where they are made."""

from __future__ import annotations

import subprocess
import sys

PICTURE = """
from harness.results.report.figures import line
print(line([1, 2], [1.0, 2.0], "s", "x"))
"""


def picture(folder) -> str:
    """One that is drawn by a process in ``folder``."""
    command = [sys.executable, "-P", "-c", PICTURE]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_matplotlibrc_of_the_current_folder_changes_nothing(tmp_path):
    """Root would run LaTeX for whoever laid it there."""
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    (theirs / "matplotlibrc").write_text("text.usetex: True\nfont.size: 40\nlines.linewidth: 9\n")
    assert picture(theirs) == picture(tmp_path)
