"""Files that are whole or not there, also after a power cut."""

from __future__ import annotations

import os

import pytest

from harness.core.files import write_atomically


def test_content_and_name_are_on_the_disk_before_it_returns(tmp_path, monkeypatch):
    """The content before it gets its name; the folder, which holds the name, after that."""
    done: list[tuple[str, str]] = []
    really_sync, really_replace = os.fsync, os.replace

    def sync(descriptor: int) -> None:
        done.append(("fsync", os.readlink(f"/proc/self/fd/{descriptor}")))
        really_sync(descriptor)

    def replace(source, target, **words) -> None:
        done.append(("rename", str(target)))
        really_replace(source, target, **words)

    monkeypatch.setattr(os, "fsync", sync)
    monkeypatch.setattr(os, "replace", replace)
    file = tmp_path / "run.json"
    write_atomically(file, "new")
    assert file.read_text() == "new"
    assert done == [
        ("fsync", str(tmp_path / ".run.json.new")),
        ("rename", str(file)),
        ("fsync", str(tmp_path)),
    ]


@pytest.mark.parametrize("name", ["run.json", "config.json"])
def test_what_was_there_is_replaced_in_one_step(tmp_path, name):
    """By a rename: a reader sees the old content or the new."""
    file = tmp_path / name
    write_atomically(file, "old")
    with open(file, encoding="utf-8") as reader:
        write_atomically(file, "new")
        assert reader.read() == "old"
    assert file.read_text() == "new"
