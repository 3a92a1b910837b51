"""The map of the modules: what it sends people to is there, and what is new is noticed.

That the page lists every module is seen to by ``make lint``.
"""

from __future__ import annotations

import re
from pathlib import Path

import harness
from scripts.module_map import MARK, PAGE, generated, missing, page

PACKAGE = Path(harness.__file__).parent


def test_where_the_map_sends_people_there_is_something():
    """Each file and folder of the table exists."""
    by_hand, _, _ = PAGE.read_text(encoding="utf-8").partition(MARK)
    rows = [line.split("|")[2] for line in by_hand.splitlines() if line.startswith("| ")]
    places = [place for row in rows for place in re.findall(r"`([\w/]+(?:\.py|/))`", row)]
    assert len(places) > 12
    assert [place for place in places if not (PACKAGE / place).exists()] == []


def test_a_module_that_is_new_is_listed(tmp_path):
    """In its room, with the first sentence of its docstring."""
    (tmp_path / "core").mkdir()
    (tmp_path / "core" / "__init__.py").write_text('"""What every room speaks."""')
    (tmp_path / "core" / "new.py").write_text('"""Do one\nthing. And another.\n\nMore."""')
    assert "## core/\n\nWhat every room speaks.\n\n- `new.py`: Do one thing.\n" in generated(
        tmp_path
    )


def test_a_module_that_is_not_listed_is_noticed(tmp_path):
    """Also one that is gone, or in another room; other words for it are not."""
    for room in ("core", "host"):
        (tmp_path / room).mkdir()
        (tmp_path / room / "__init__.py").write_text('"""A room."""')
    (tmp_path / "core" / "old.py").write_text('"""Old."""')
    text = page("By hand.\n", tmp_path)
    assert missing(text, tmp_path) == []
    (tmp_path / "core" / "old.py").write_text('"""Old, but said anew."""')
    assert missing(text, tmp_path) == []
    (tmp_path / "core" / "old.py").rename(tmp_path / "host" / "old.py")
    assert missing(text, tmp_path) == ["## core/ old.py", "## host/ old.py"]


def test_a_module_that_says_nothing_is_noticed(tmp_path):
    """A program that goes to a guest says it in a comment."""
    (tmp_path / "guest").mkdir()
    (tmp_path / "guest" / "__init__.py").write_text('"""A room."""')
    program = tmp_path / "guest" / "facts.py"
    program.write_text("# What a guest tells.\n# In a line.\nimport os\n")
    assert "- `facts.py`: What a guest tells.\n" in generated(tmp_path)
    program.write_text("import os\n")
    assert missing(page("", tmp_path), tmp_path) == ["- `facts.py`: "]
