"""Which QEMU a guest runs in, and which one it goes on in: installed, or of a folder beside."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.core.timebase import Deadline
from harness.updates.qemu import programs
from tests.unit.updates.qemu.test_update import qemu

NAME = "qemu-system-x86_64"


@pytest.fixture
def tree(tmp_path, monkeypatch) -> Path:
    """A folder of unpacked packages, and another QEMU that is installed."""
    folder = tmp_path / "qemu 7.2"
    qemu(folder / "usr/bin", "7.2.22")
    qemu(tmp_path / "installed", "10.0.2")
    monkeypatch.setenv("PATH", f"{tmp_path / 'installed'}:/usr/bin:/bin")
    monkeypatch.setattr(programs, "WRAPPERS", tmp_path / "emulators")
    return folder


def of(tree: Path) -> programs.Program:
    found = programs.in_tree(tree, NAME, Deadline.after(20), wrappers=programs.WRAPPERS)
    programs.write_wrapper(found)
    return found


def test_a_guest_that_came_back_in_a_qemu_of_a_folder_goes_on_in_the_installed_one(tree):
    """Its description names our script, and the next attempt shall not be the same QEMU again."""
    assert programs.usual(of(tree).emulator) == tree.parent / "installed" / NAME
    assert programs.usual(Path("/opt/own") / NAME) == Path("/opt/own") / NAME


def test_its_folder_is_known_by_the_script_that_started_it(tree, monkeypatch):
    """AppArmor is told of it, when the guest has to come back in that one; packages that are
    installed meanwhile do not change it."""
    there = of(tree)
    monkeypatch.setattr(programs.in_tree, "__defaults__", (programs.WRAPPERS,))
    for stays in (True, False):
        found = programs.running(there.emulator, "7.2.22", None, Deadline.after(20), stays=stays)
        assert found == there
        assert found.tree == tree


def test_a_script_that_is_gone_or_is_none_of_ours_is_a_qemu_like_any_other(tree):
    """Nothing is guessed."""
    emulator = of(tree).emulator
    emulator.write_text("#!/bin/sh\n")
    assert programs.usual(emulator) == emulator
    emulator.unlink()
    assert programs.usual(emulator) == emulator
