"""The file that `init=` names becomes the real init, whatever comes of the program: real shells."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from harness.core.errors import UpdateFailed
from harness.core.timebase import Deadline
from harness.host.kernel import modules
from harness.updates.kernel import launcher
from tests.unit.updates.kernel.test_plan import PLAN


@pytest.fixture
def started(tmp_path):
    """Start a launcher whose program and init are the test's; what init was given, and said."""
    init = tmp_path / "init"
    init.write_text('#!/bin/sh\necho "init $*"\n')
    init.chmod(0o755)

    def start(program: str, limit_s: float = 30) -> str:
        python = tmp_path / "python"
        python.write_text(f"#!/bin/sh\n{program}\n")
        python.chmod(0o755)
        text = launcher.text(tmp_path / "the plan", limit_s, ("a", "b c"), init, str(python))
        # What it does about a libvirtd and mounts of this machine is no test's.
        assert "/run/libvirtd.pid" in text
        assert "umount" in text
        kept = [one for one in text.splitlines() if "libvirtd" not in one and "umount" not in one]
        text = "\n".join(one for one in kept if not one.startswith(("for ", "done")))
        file = tmp_path / "launcher"
        file.write_text(text)
        words = ["sh", str(file), "single", "a b"]
        return subprocess.run(words, capture_output=True, text=True, timeout=120).stdout

    return start


@pytest.mark.parametrize(
    "program",
    ["true", "exit 1", "kill -9 $$", "kill -SEGV $$", "exec /nonexistent"],
    ids=["done", "failed", "killed", "crashed", "not there"],
)
def test_init_is_started_however_the_program_ended(started, program):
    """With the arguments that the kernel gave it."""
    assert started(program).splitlines()[-1] == "init single a b"


def test_a_program_that_hangs_is_ended_and_init_is_started(started, monkeypatch):
    """Nobody is there to press a key."""
    monkeypatch.setattr(launcher, "GRACE_S", 1)
    assert started("trap '' TERM; while :; do sleep 1; done", 0).splitlines()[-1].startswith("init")


def test_the_program_is_the_installed_one_with_the_plan(started):
    """Names are data."""
    said = started('for word in "$@"; do echo "<$word>"; done')
    assert "<harness.maintenance.thaw.program>" in said
    assert "the plan>" in said


def test_modules_are_loaded_while_the_program_starts(started, tmp_path, monkeypatch):
    """It does not wait for them: one that hangs keeps nobody from the program, nor from init."""
    loader = tmp_path / "sbin" / "modprobe"
    loader.parent.mkdir()
    loader.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" >{tmp_path}/asked\nexec sleep 60\n')
    loader.chmod(0o755)
    path = "PATH=/usr/sbin"
    real = launcher.text
    monkeypatch.setattr(
        launcher,
        "text",
        lambda *words: real(*words).replace(path, f"PATH={loader.parent}:/usr/sbin"),
    )
    until = f"until [ -s {tmp_path}/asked ]; do sleep 0.02; done; echo began"
    assert started(until).splitlines() == ["began", "init single a b"]
    asked = (tmp_path / "asked").read_text().splitlines()
    assert asked == ["--dirname", str(modules.FOLDER), "--all", "a", "b c"]


def test_the_launcher_can_be_executed_and_goes_with_the_plan(tmp_path):
    """Whoever comes after a handover finds neither."""
    plan = tmp_path / "handover"
    plan.write_text("{}")
    file = launcher.write(plan, 60, (), tmp_path / "thaw")
    assert file == launcher.path(tmp_path / "thaw")
    assert file.stat().st_mode & 0o777 == 0o755
    assert subprocess.run(["sh", "-n", str(file)]).returncode == 0
    launcher.forget(plan, tmp_path / "thaw")
    launcher.forget(plan, tmp_path / "thaw")
    assert (plan.exists(), file.exists()) == (False, False)


def test_what_is_on_a_file_system_of_its_own_is_not_there_before_init():
    """The interpreter here is on the root; a file of the kernel's is not."""
    assert launcher.is_on_root(Path("/bin/sh"))
    assert not launcher.is_on_root(Path("/proc/self"))
    assert not launcher.is_on_root(Path("/nonexistent"))
    assert Path(sys.executable).exists()


def test_the_program_is_tried_before_guests_wait_for_it(tmp_path):
    """The installed one, with all that it imports, and the plan."""
    plan = tmp_path / "handover"
    PLAN.write(plan)
    launcher.require_program(plan, Deadline.after(60))


@pytest.mark.parametrize(
    ("python", "said"),
    [
        (None, "InfrastructureError: .*handover"),
        ("echo one >&2; echo no module >&2; exit 1", "not start: no module"),
        ("exit 3", "not start: exit status 3"),
        ("exec sleep 60", "not start in time"),
    ],
    ids=["plan", "imports", "silent", "hangs"],
)
def test_a_program_that_would_not_start_is_told(tmp_path, python, said):
    """Before a guest is paused."""
    interpreter = sys.executable
    if python is not None:
        file = tmp_path / "python"
        file.write_text(f"#!/bin/sh\n{python}\n")
        file.chmod(0o755)
        interpreter = str(file)
    deadline = Deadline.after(0.2 if python is not None and "sleep" in python else 60)
    with pytest.raises(UpdateFailed, match=said):
        launcher.require_program(tmp_path / "handover", deadline, interpreter)
