"""Files that are whole or not there, also after a power cut; folders, whatever the umask."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from harness.core.errors import ConfigError
from harness.core.files import private_folder, public_folder, write_atomically
from harness.events.server import is_served
from harness.events.store import Store
from harness.results.folder import RunFolder

UMASKS = [0o000, 0o022, 0o077, 0o777]


@pytest.fixture
def umask():
    """``umask(0o000)``, until the test ends."""
    before = os.umask(0o022)
    yield os.umask
    os.umask(before)


def modes(top: Path) -> set[int]:
    """The modes of ``top`` and of all folders in it."""
    return {folder.stat().st_mode & 0o777 for folder in (top, *top.rglob("*/"))}


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


@pytest.mark.parametrize("mask", UMASKS)
def test_a_private_folder_is_private_with_all_that_is_made_on_the_way(tmp_path, umask, mask):
    """Under umask 000 the parents were for everybody to write to."""
    umask(mask)
    assert private_folder(tmp_path / "a" / "b" / "c") == tmp_path / "a" / "b" / "c"
    assert modes(tmp_path / "a") == {0o700}


@pytest.mark.parametrize("mask", UMASKS)
def test_a_public_folder_can_be_used_by_others(tmp_path, umask, mask):
    """Under umask 077 QEMU's own user could not get to a guest's files."""
    umask(mask)
    public_folder(tmp_path / "a" / "b", mode=0o711)
    assert modes(tmp_path / "a") == {0o711}
    public_folder(tmp_path / "c")
    assert modes(tmp_path / "c") == {0o755}


def test_a_folder_that_is_there_is_left_as_it_is(tmp_path):
    """Its mode is a person's choice; unless it had to be new. A file is no folder."""
    tmp_path.chmod(0o750)
    assert private_folder(tmp_path).stat().st_mode & 0o777 == 0o750
    with pytest.raises(FileExistsError):
        private_folder(tmp_path, new=True)
    (tmp_path / "file").touch()
    for path in (tmp_path / "file", tmp_path / "file" / "x"):
        with pytest.raises(OSError):
            private_folder(path)


@pytest.mark.parametrize("mask", UMASKS)
def test_a_state_folder_is_private_whatever_the_umask(tmp_path, umask, mask):
    """With the run folder, and the store of events."""
    umask(mask)
    folder = RunFolder.create(tmp_path / "x" / "state", "run-1")
    folder.guest("web1")
    Store(tmp_path / "y" / "state").close()
    assert modes(tmp_path / "x") | modes(tmp_path / "y") == {0o700}
    assert (tmp_path / "y/state/events.db").stat().st_mode & 0o777 == 0o600


@pytest.mark.skipif(os.geteuid() != 0, reason="only root is told what to do by others")
def test_root_uses_no_state_folder_that_anybody_may_write_to(tmp_path):
    """As one made under umask 000 was: scheduled maintenances are read from it."""
    state = private_folder(tmp_path / "state")
    state.chmod(0o777)
    refused = pytest.raises(ConfigError, match=r"can be changed by any user .*chmod o-w")
    with refused:
        RunFolder.create(state, "run-1")
    with refused:
        Store(state)
    with refused:
        is_served(state)
    assert not (state / "runs" / "run-1").exists()


def test_no_folder_is_made_but_by_these_functions():
    """The next ``mkdir`` would have the mode that the umask leaves, or parents that have."""
    root = Path(__file__).parents[3]
    made = {
        f"{path.relative_to(root)}:{number}"
        for path in sorted((root / "harness").rglob("*.py"))
        if path.parts[-2] != "testing" and path.relative_to(root) != Path("harness/core/files.py")
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if re.search(r"\b(mkdir|makedirs)\(", line)
    }
    assert made == set(), "use harness.core.files.private_folder, or public_folder"
