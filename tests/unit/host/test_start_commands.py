"""What a QEMU reads as it starts: commands for the time of a restore of ours, else nothing."""

from __future__ import annotations

import json
import os

import pytest

from harness.core.errors import InfrastructureError
from harness.host.start_commands import StartCommands, arguments, path_for


@pytest.fixture
def path(tmp_path):
    return path_for("uuid", tmp_path / "links")


def test_the_next_qemu_is_told_to_leave_ram_alone(path, tmp_path):
    """Two lines, only for QEMU's user, behind the link that its arguments name."""
    StartCommands(path, tmp_path / "run").arm(os.geteuid(), os.getegid())
    link = path.with_name("uuid.in")
    lines = [json.loads(line) for line in link.read_text().splitlines()]
    assert [line["execute"] for line in lines] == ["qmp_capabilities", "migrate-set-capabilities"]
    told = lines[1]["arguments"]["capabilities"]
    assert told == [{"capability": "x-ignore-shared", "state": True}]
    assert link.stat().st_mode & 0o777 == 0o600
    assert os.readlink(path.with_name("uuid.out")) == "/dev/null"
    assert f"pipe,id=harness,path={path}" in arguments(str(path))


def test_each_start_gets_a_file_of_its_own(path, tmp_path):
    """The QEMU before may write into the one that it has open."""
    commands = StartCommands(path, tmp_path / "run")
    commands.arm(os.geteuid(), os.getegid())
    before = path.with_name("uuid.in").stat().st_ino
    with open(path.with_name("uuid.in")):
        commands.arm(os.geteuid(), os.getegid())
        assert path.with_name("uuid.in").stat().st_ino != before


def test_later_starts_are_told_nothing(path, tmp_path):
    """By the same description: its files are there, and empty."""
    commands = StartCommands(path, tmp_path / "run")
    commands.arm(os.geteuid(), os.getegid())
    for _ in range(2):
        commands.disarm()
        assert path.with_name("uuid.in").read_text() == ""
    assert list((tmp_path / "run").iterdir()) == []


def test_after_a_reboot_in_the_midst_nothing_starts(path, tmp_path):
    """``/run`` is empty then: the link leads nowhere, and QEMU cannot open it."""
    StartCommands(path, tmp_path / "run").arm(os.geteuid(), os.getegid())
    (tmp_path / "run/uuid").unlink()
    with pytest.raises(FileNotFoundError):
        path.with_name("uuid.in").read_text()


def test_what_cannot_be_written_is_said(path, tmp_path):
    """With the file's name."""
    (tmp_path / "links").write_text("")
    commands = StartCommands(path, tmp_path / "run")
    with pytest.raises(InfrastructureError, match="links"):
        commands.arm(os.geteuid(), os.getegid())
    commands.disarm()  # nobody was ever told anything


def test_nothing_is_made_for_a_guest_that_was_never_told_anything(path, tmp_path):
    """Most guests."""
    StartCommands(path, tmp_path / "run").disarm()
    assert list(tmp_path.iterdir()) == []
