"""Figures of the documentation: beside each table of measurements stands the command it is from."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from tests.shown import PAGES, ROOT

_PICTURES = sorted((ROOT / "docs").rglob("*.svg")) + sorted((ROOT / "docs").rglob("*.png"))
#: A cell that is a measurement: a figure with a decimal and a unit, or with its worst beside it.
_MEASURED = re.compile(
    r"\| *[+−-]?(?:[\d.]+\)? ?(?:ms|µs|s)\b|\d+\.\d+ MiB|[\d.]+ ?\([\d.]|\d+ to \d+ s\b)",
    re.MULTILINE,
)
_COMMAND = re.compile(r"`(?:make|harness|python|\.venv/bin/python) [^`]*`|`make [^`]*`", re.DOTALL)
_TABLE = re.compile(r"(?:^\|.*\n)+", re.MULTILINE)
#: Of a table with fewer, the figures are limits and examples.
_FEW = 4


def without_source(text: str) -> Iterator[str]:
    """Yield the header of each table of measurements whose section names no command."""
    for section in re.split(r"^#+ ", text, flags=re.MULTILINE):
        for table in _TABLE.findall(section):
            measured = len(_MEASURED.findall(table)) >= _FEW
            if (
                measured
                and not _COMMAND.search(section.replace(table, ""))
                and not _COMMAND.search(table)
            ):
                yield table.partition("\n")[0]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_measurements_name_the_command_that_took_them(page):
    """A page that a benchmark writes as a whole names it at its head."""
    text = page.read_text()
    if not re.match(r"# [^\n]*\n\nWritten by `make ", text):
        assert list(without_source(text)) == []


def test_a_table_without_its_command_is_found():
    rows = "| a | 1.25 ms |\n| b | 3.5 (4.1) ms |\n| c | 0.1 s |\n| d | 2.0 MiB |\n"
    table = f"| what | figure |\n|---|---|\n{rows}"
    assert list(without_source(f"# A\n\n{table}")) == ["| what | figure |"]
    assert list(without_source(f"# A\n\nMeasured by `make bench`.\n\n{table}")) == []
    assert list(without_source(f"Measured by `make bench`.\n# A\n\n{table}")) != []


def test_there_are_such_tables():
    tables = [t for page in PAGES for t in _TABLE.findall(page.read_text())]
    assert sum(len(_MEASURED.findall(table)) >= _FEW for table in tables) > 10


@pytest.mark.parametrize("picture", _PICTURES, ids=lambda picture: picture.name)
def test_pictures_are_small_and_need_no_other_site(picture):
    """Those of the README are written by `make pictures` from a real run."""
    assert picture.stat().st_size < 150 * 1024
    if picture.suffix == ".svg":
        assert not re.search(r"""(?:href=|url\()["']?https?:""", picture.read_text())
