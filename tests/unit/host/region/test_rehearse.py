"""A kexec is rehearsed with no guest running, and counts only where the kernel came up by it."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from harness.cli.main import cli
from harness.core.errors import InfrastructureError, MissingCapability, UpdateFailed, UsageError
from harness.host.kernel import kexec
from harness.host.luo import sessions
from harness.host.region import facts as looked
from harness.host.region import rehearse
from harness.host.region.rehearsal import Rehearsal, conclude, rehearsal, write
from harness.host.region.rehearse import Start, emulators, leave, prepared
from tests.unit.host.region.test_facts import FIT, LINE

NEVER = replace(FIT, rehearsal=None)


@pytest.fixture
def host(tmp_path) -> dict[str, Path]:
    """A machine with its kernel installed, and no guest."""
    boot, proc = tmp_path / "boot", tmp_path / "proc"
    boot.mkdir()
    for name in ("vmlinuz", "initrd.img"):
        (boot / f"{name}-{os.uname().release}").write_bytes(b"x")
    process(proc, 1, "systemd")
    return {"boot": boot, "proc": proc}


def process(proc: Path, pid: int, comm: str) -> None:
    (proc / str(pid)).mkdir(parents=True)
    (proc / str(pid) / "comm").write_text(f"{comm}\n")


def test_the_kernel_that_runs_is_started_with_its_own_line_and_a_word(host):
    """A word of an earlier rehearsal is not taken along; what is for init stays for init."""
    found = prepared(replace(NEVER, command_line=f"{LINE} harness.rehearsal=old -- single"), **host)
    assert found.kernel.name == f"vmlinuz-{os.uname().release}"
    assert found.command_line == f"{LINE} {found.word} -- single"
    assert found.word.startswith("harness.rehearsal=")
    assert prepared(NEVER, **host).word != found.word


def test_a_cpu_whose_counter_may_stop_can_be_rehearsed_on(host):
    """That is a matter of guests' clocks, and no guest runs."""
    assert prepared(replace(NEVER, cpu_flags=frozenset()), **host).kernel


def test_a_host_with_live_update_needs_no_region_for_it(host, monkeypatch):
    """Its guests' RAM is handed over without one; where there is neither it would prove nothing."""
    bare = replace(NEVER, enrolled=None)
    with pytest.raises(UsageError, match="no memory of this host is set aside"):
        prepared(bare, **host)
    monkeypatch.setattr(sessions, "is_there", lambda: True)
    assert prepared(bare, **host).kernel
    with pytest.raises(UsageError, match="has not set aside"):
        prepared(replace(NEVER, set_aside=False), **host)


def test_no_guest_is_ended_by_it(host):
    """Not even one that libvirt does not know."""
    process(host["proc"], 77, "qemu-system-x86")
    assert emulators(host["proc"]) == [77]
    with pytest.raises(UsageError, match="guests run on this host, and would end: QEMU 77"):
        prepared(NEVER, **host)


@pytest.mark.parametrize(
    ("changes", "refusal", "says"),
    [
        ({"enrolled": None}, UsageError, "no memory of this host is set aside"),
        ({"mounted": False}, UsageError, "another file system"),
        ({"kexec_disabled": True}, MissingCapability, "kexec_load_disabled"),
        ({"secure_boot": True}, MissingCapability, "Secure Boot"),
    ],
)
def test_a_host_that_could_not_do_it_is_told_why(host, changes, refusal, says):
    """Before anything ends."""
    with pytest.raises(refusal, match=says) as told:
        prepared(replace(NEVER, **changes), **host)
    assert told.value.hint


def test_a_kernel_that_is_not_installed_cannot_be_started(host):
    """Its package was removed, or it came from elsewhere."""
    (host["boot"] / f"initrd.img-{os.uname().release}").unlink()
    with pytest.raises(MissingCapability, match="is not there"):
        prepared(NEVER, **host)


def test_what_was_begun_is_written_down_before_the_kernel_is_left(host, tmp_path, monkeypatch):
    """And is taken back if it is refused: this boot goes on, and nothing was rehearsed."""
    start, begun = prepared(NEVER, **host), tmp_path / "begun"
    did: list[object] = []

    def refuse() -> None:
        did.append(rehearsal(begun))
        raise UpdateFailed("kexec was refused: Device or resource busy")

    monkeypatch.setattr(kexec, "load", lambda *words: did.append(words))
    monkeypatch.setattr(kexec, "unload", lambda: did.append("unloaded"))
    monkeypatch.setattr(kexec, "start", refuse)
    with pytest.raises(UpdateFailed, match="busy"):
        leave(start, NEVER, begun)
    loaded, written, last = did
    assert loaded == (start.kernel, start.initrd, start.command_line)
    assert isinstance(written, Rehearsal)
    assert (written.word, written.hardware) == (start.word, NEVER.hardware)
    assert last == "unloaded"
    assert not begun.exists()


def test_a_kernel_that_could_not_be_told_from_another_is_not_started(tmp_path):
    """A word that the kernel does not see (behind `--`) proves nothing."""
    with pytest.raises(InfrastructureError, match="told from another"):
        leave(Start(tmp_path, tmp_path, "a -- harness.rehearsal=1", "harness.rehearsal=1"), FIT)


def test_only_a_kernel_that_was_started_by_it_makes_it_a_record(tmp_path):
    """After a reset the word is missing: what was begun stays for doctor to tell."""
    begun, record = tmp_path / "begun", tmp_path / "record"
    assert conclude("quiet", begun=begun, record=record) is None
    write(FIT.rehearsal, begun)
    for line in ("quiet", "quiet harness.rehearsal=1", "quiet -- harness.rehearsal=1f"):
        assert conclude(line, begun=begun, record=record) is None
    assert not record.exists()
    assert conclude("quiet harness.rehearsal=1f", begun=begun, record=record) == FIT.rehearsal
    assert rehearsal(record) == FIT.rehearsal
    assert not begun.exists()


def test_the_command_line_says_what_ends_before_it_ends(host, monkeypatch):
    """With what is started; with --dry-run that is all."""
    started: list[Start] = []
    monkeypatch.setattr("os.geteuid", lambda: 0)
    monkeypatch.setattr(looked, "look", lambda here: NEVER)
    known = prepared(NEVER, **host)
    monkeypatch.setattr(rehearse, "prepared", lambda facts: known)
    monkeypatch.setattr(rehearse, "leave", lambda start, facts: started.append(start))

    def harness(*words: str):
        words = ("setup-host", "--rehearse-kexec", *words)
        return CliRunner().invoke(cli, words, standalone_mode=False)

    said = harness("--dry-run").stdout
    assert "would start" in said
    assert "every process of this host ends" in said
    told = json.loads(harness("--dry-run", "--json").stdout)
    assert told["command_line"] == known.command_line
    assert started == []
    assert harness().stdout == said.replace("would ", "")
    assert started == [known]
    assert "one of --resident" in str(harness("--undo").exception)
