"""Pictures: what is on them, in which format; the same wherever they are made."""

from __future__ import annotations

import io
import subprocess
import sys
from contextlib import redirect_stdout

import pytest

from harness.core.errors import InfrastructureError
from harness.core.records import Outcome
from harness.results.report.plots import ENDINGS, Point, Said, by_group, over_time, write

PICTURE = """
from harness.results.report.plots import Point, Said, over_time
from harness.results.report.drawing import VARIABLES, svg
points = [Point(1.0), Point(2.0)]
print(svg(over_time([1, 2], points, Said("x", "s", ["box"], 2))(VARIABLES), "x"))
"""


def picture(folder) -> str:
    """One that is drawn by a process in ``folder``."""
    command = [sys.executable, "-P", "-c", PICTURE]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_matplotlibrc_of_the_current_folder_changes_nothing(tmp_path):
    """Root would run LaTeX for whoever laid it there."""
    mine = io.StringIO()
    with redirect_stdout(mine):
        exec(PICTURE, {})
    assert mine.getvalue().startswith("<svg")
    (tmp_path / "matplotlibrc").write_text("text.usetex: True\nfont.size: 40\nlines.linewidth: 9\n")
    assert picture(tmp_path) == mine.getvalue()


def drawn(tmp_path, points: list[Point], unit: str = "s", name: str = "x.svg"):
    """A picture over days, in a file."""
    file = tmp_path / name
    days = [20_000.0 + day for day in range(len(points))]
    write(file, over_time(days, points, Said("Overhead", unit, ["box", "box"], len(points))))
    return file


BEGINS = {".svg": b"<svg", ".png": b"\x89PNG", ".pdf": b"%PDF"}


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_picture_is_what_the_ending_of_its_file_says(tmp_path, ending):
    """Written twice it is the same, so that it can be kept beside code."""
    once = drawn(tmp_path, [Point(0.01)], name=f"x{ending.upper()}").read_bytes()
    assert once.startswith(BEGINS[ending])
    assert drawn(tmp_path, [Point(0.01)], name=f"x{ending.upper()}").read_bytes() == once
    assert [one.name for one in tmp_path.iterdir()] == [f"x{ending.upper()}"]


def test_a_picture_says_what_it_shows_in_milliseconds(tmp_path):
    """Seconds with five decimals were labels that touched each other."""
    text = drawn(tmp_path, [Point(0.00025), Point(0.0005)]).read_text()
    assert ">Overhead<" in text
    assert ">box: 2 runs<" in text
    assert ">ms<" in text
    assert ">0.5<" in text
    assert "0.0002" not in text


def test_long_times_stay_seconds_and_what_has_no_unit_stays_as_it_is(tmp_path):
    assert ">s<" in drawn(tmp_path, [Point(62.0)]).read_text()
    assert ">ms<" not in drawn(tmp_path, [Point(0.5)], unit="").read_text()


def test_runs_that_did_not_pass_have_a_colour_of_their_own(tmp_path):
    """And a legend says so; where all have passed there is none."""
    good = drawn(tmp_path, [Point(0.01), Point(0.02)]).read_text()
    assert "var(--fail)" not in good
    assert ">pass<" not in good
    mixed = drawn(tmp_path, [Point(0.01), Point(0.02, Outcome.FAIL)]).read_text()
    assert "var(--fail)" in mixed
    assert ">pass<" in mixed
    assert ">fail<" in mixed


def test_names_of_hosts_and_groups_are_data(tmp_path):
    """Neither mathematics nor markup."""
    file = tmp_path / "x.svg"
    groups = [("method $\\frac$ <b>", [Point(0.1)]), ("other", [Point(0.2)])]
    write(file, by_group(groups, Said("By method", "s", ["<box> $x$"], 2)))
    assert "&lt;b&gt;" in file.read_text()
    assert "&lt;box&gt; $x$" in file.read_text()


def test_a_folder_that_is_not_there_is_an_error_of_ours(tmp_path):
    with pytest.raises(InfrastructureError, match="cannot write"):
        drawn(tmp_path, [Point(0.1)], name="gone/x.png")
