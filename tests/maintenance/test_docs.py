"""The example of docs/reports.md, as it stands there."""

from __future__ import annotations

import re
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "reports.md"


def test_the_example_without_guests_runs(tmp_path, monkeypatch):
    """A user may copy it: ``folder`` is the only name that it does not bring."""
    monkeypatch.setenv("HARNESS_LOCK_DIR", str(tmp_path))
    section = PAGE.read_text().split("## Without guests")[1]
    example = re.search(r"```python\n(.*?)```", section, re.DOTALL)[1]
    exec(compile(example, str(PAGE), "exec"), {"folder": tmp_path})
