"""Where state folders may be: of this user, of the system, of all who log in."""

from __future__ import annotations

import pwd
from pathlib import Path
from types import SimpleNamespace

import pytest

from harness.core import paths


@pytest.fixture
def homes(tmp_path, monkeypatch):
    """Homes of root, alice, and a service, each with a state folder; ours is chosen by variable."""
    users = {"root": 0, "alice": 1000, "service": 120, "nobody": 65534}
    for name in users:
        (tmp_path / name / ".local" / "state" / "harness").mkdir(parents=True)
    listed = [
        SimpleNamespace(pw_uid=uid, pw_dir=str(tmp_path / name)) for name, uid in users.items()
    ]
    monkeypatch.setattr(pwd, "getpwall", lambda: listed)
    monkeypatch.setattr(paths, "_SYSTEM_STATE", tmp_path / "system")
    monkeypatch.setenv("HARNESS_STATE_DIR", str(tmp_path / "chosen"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "xdg"))
    return tmp_path


def names(folder: Path) -> list[str]:
    return [str(one.relative_to(folder)).partition("/")[0] for one in paths.known_state_dirs()]


def test_the_chosen_folder_comes_first_then_those_that_are_there(homes):
    """Of people and of root; services keep no runs."""
    assert names(homes) == ["chosen", "root", "alice"]
    (homes / "system").mkdir()
    (homes / "xdg" / "harness").mkdir(parents=True)
    assert names(homes) == ["chosen", "xdg", "system", "root", "alice"]


def test_a_folder_that_may_not_be_looked_for_is_among_them(homes, monkeypatch):
    """What is in it is not known: that is for its reader to say."""
    look = Path.stat

    def stat(path: Path, **options):
        if path.is_relative_to(homes / "root"):
            raise PermissionError(13, "Permission denied")
        return look(path, **options)

    monkeypatch.setattr(Path, "stat", stat)
    assert names(homes) == ["chosen", "root", "alice"]
