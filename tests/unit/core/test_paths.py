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


def test_the_chosen_folder_comes_first_then_the_defaults_of_all_who_log_in(homes):
    """Of people and of root; services keep no runs."""
    assert names(homes) == ["chosen", "xdg", "system", "root", "alice"]


def test_none_of_them_is_looked_at(homes, monkeypatch):
    """A home may be on a disk that hangs."""

    def hang(path: Path, **options: object):
        raise AssertionError(path)

    monkeypatch.setattr(Path, "stat", hang)
    assert len(names(homes)) == 5
