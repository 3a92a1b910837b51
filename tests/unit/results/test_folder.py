"""Run folders: private, atomic, and indifferent to what guests are called."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from harness.core.errors import InfrastructureError, UsageError
from harness.core.files import write_atomically
from harness.core.settings import Config, GuestSection
from harness.results.folder import CONFIG, RunFolder, find_run, new_run_id
from harness.testing.runs import a_run


def test_a_run_folder_is_private(tmp_path):
    """Mode 0700 for folders, 0600 for files."""
    folder = RunFolder.create(tmp_path, new_run_id())
    folder.write_guest("web1", "x.json", {"a": 1})
    assert folder.path.stat().st_mode & 0o777 == 0o700
    assert (folder.guest("web1") / "x.json").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("content", [[], [{"a": 1}, {"b": None}], {"a": Path("x")}, "text"])
def test_raw_material_is_read_as_it_was_kept(tmp_path, content):
    """A list has a line for each; what JSON does not know is kept as text."""
    folder = RunFolder.create(tmp_path, new_run_id())
    folder.write_guest("web1", "x.json", content)
    kept = (folder.guest("web1") / "x.json").read_text()
    if content == "text":
        assert kept == content
    else:
        assert json.loads(kept) == json.loads(json.dumps(content, default=str))


@pytest.mark.parametrize("name", ["a; touch x", "../../etc", "..", ".", "a/b", "Ünïcode", "a\nb"])
def test_a_guest_name_is_only_ever_a_file_name(tmp_path, name):
    """No name leaves the run folder, and different names never meet."""
    folder = RunFolder.create(tmp_path, new_run_id())
    path = folder.guest(name)
    assert path.parent == folder.path / "guests"
    assert path.name not in (".", "..")


def test_a_state_folder_that_cannot_be_written_is_refused(tmp_path):
    """The run ends before anything is paused, naming the folder."""
    blocker = tmp_path / "file"
    blocker.write_text("")
    with pytest.raises(InfrastructureError, match="nothing was paused"):
        RunFolder.create(blocker, new_run_id())


def test_a_record_is_on_the_disk_when_it_is_written(tmp_path, monkeypatch):
    """A power cut right after a run leaves what became of its guests."""
    folder = RunFolder.create(tmp_path, new_run_id())
    synced = []
    monkeypatch.setattr(os, "fsync", lambda fd: synced.append(os.readlink(f"/proc/self/fd/{fd}")))
    folder.write_record(a_run())
    assert synced == [str(folder.path / ".run.json.new"), str(folder.path)]


def test_a_failed_write_keeps_the_old_content(tmp_path):
    """A reader never sees half a record."""
    file = tmp_path / "run.json"
    write_atomically(file, "old")
    (tmp_path / ".run.json.new").mkdir()
    with pytest.raises(InfrastructureError):
        write_atomically(file, "new")
    assert file.read_text() == "old"


def test_a_run_is_found_by_part_of_its_id_and_never_guessed(tmp_path):
    """Newest by default; an ambiguous or unknown id is refused."""
    for name in ("20260101T000000Z-aaaaaa", "20260102T000000Z-bbbbbb"):
        (tmp_path / "runs" / name).mkdir(parents=True)
        (tmp_path / "runs" / name / "run.json").write_text("{}")
    assert find_run(tmp_path, None).run_id.endswith("bbbbbb")
    assert find_run(tmp_path, "aaaaaa").run_id.endswith("aaaaaa")
    with pytest.raises(UsageError, match="fits 2 runs"):
        find_run(tmp_path, "2026")
    with pytest.raises(UsageError, match="no run 'zz'"):
        find_run(tmp_path, "zz")


def test_a_file_that_is_no_record_is_refused(tmp_path):
    """A damaged run.json is a clear error, not a traceback."""
    (tmp_path / "run.json").write_text("{}")
    with pytest.raises(UsageError, match="run.json is damaged or of another version"):
        RunFolder(tmp_path).record()


def test_what_is_understood_of_a_configuration_counts_without_the_rest(tmp_path):
    """Of a newer version, or damaged: what is left out is named, and has its default."""
    folder = RunFolder(tmp_path)
    config = Config(uri="test:///a", budget_s=7.0, guest=(GuestSection(name="web1"),))
    folder.write_config(config)
    assert folder.config_as_understood() == (folder.config(), ())
    tree = json.loads((tmp_path / CONFIG).read_text())
    tree |= {"teleport": {"to": "mars"}, "soak_s": "long"}
    tree["clock"]["methods"] = ["by-thought"]
    tree["guest"] += [{"address": "192.0.2.1"}, {"name": "web2", "mood": "good"}]
    (tmp_path / CONFIG).write_text(json.dumps(tree))
    found, notes = folder.config_as_understood()
    assert (found.uri, found.budget_s, found.soak_s) == ("test:///a", 7.0, 0.0)
    assert [guest.name for guest in found.guest] == ["web1", "web2"]
    named = " ".join(notes)
    for key in ("teleport", "soak_s", "clock.methods", "guest.1", "guest.1.mood"):
        assert key in named


@pytest.mark.parametrize("text", ["{", "[]", "7", '{"budget_s": 1, "resume_reserve_s": 2}', "\xff"])
def test_a_configuration_of_which_nothing_is_understood_is_the_default(tmp_path, text):
    """And why; also where there is none."""
    folder = RunFolder(tmp_path)
    assert folder.config_as_understood()[0] == Config()
    (tmp_path / CONFIG).write_text(text, encoding="latin-1")
    found, (note,) = folder.config_as_understood()
    assert (found, str(tmp_path / CONFIG) in note) == (Config(), True)
