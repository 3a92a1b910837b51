"""The examples of the documentation, as they stand there."""

from __future__ import annotations

import re
from contextlib import nullcontext
from pathlib import Path
from types import CodeType

from harness import api
from harness.testing.guard import FakeGuard

DOCS = Path(__file__).parents[2] / "docs"


def example(page: str, after: str) -> CodeType:
    """The first block of Python after a heading, ready to be run."""
    section = (DOCS / page).read_text().split(after, 1)[1]
    return compile(re.search(r"```python\n(.*?)```", section, re.DOTALL)[1], page, "exec")


def test_the_example_without_guests_runs(tmp_path, monkeypatch):
    """A user may copy it: ``folder`` is the only name that it does not bring."""
    monkeypatch.setenv("HARNESS_LOCK_DIR", str(tmp_path))
    exec(example("how-to/pytest.md", "## Without guests"), {"folder": tmp_path})


def test_the_example_for_programs_runs(house, tmp_path, monkeypatch, capsys):
    """Word for word; what it would find by libvirt and SSH is a host in memory here."""
    ours = house("web1")
    there = api.Backend(
        lambda config: nullcontext(ours.host), ours.connector, guardian=lambda *_: FakeGuard()
    )
    monkeypatch.setattr(api.Backend, "real", lambda: there)
    monkeypatch.setenv("HARNESS_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)
    exec(example("reference/api.md", "# For programs"), {})
    said = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in said] == ["web1", "web1"]
    paused_s = float(said[0].partition("paused for ")[2].split()[0])
    assert 0.2 <= paused_s < 10  # what its settings hold it for, and its budget
