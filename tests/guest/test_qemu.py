"""QEMU is replaced under paused guests, RAM in place: real guests, real libvirt, two real QEMUs.

Requires: the session's lab, whose RAM folder is in memory. The second QEMU is that of
``scripts/second-qemu``; where it is not there, guests are parked and come back in the same one.
Leaves behind: nothing.
"""

from __future__ import annotations

import subprocess
from itertools import accumulate
from pathlib import Path

import pytest

from harness.core.paths import state_dir
from harness.results.journal import FILE_NAME, Line, entries, read
from harness.updates.qemu.tried import release, works
from tests.residents import EMULATOR, Residents, residents, second_qemu, wrapper


@pytest.fixture(scope="module")
def there(lab, libvirt, tmp_path_factory):
    """Two guests whose QEMU can be replaced."""
    with residents(tmp_path_factory.mktemp("residents"), libvirt) as found:
        yield found


def hop(there: Residents, harness, *options: str, before=None, **update) -> dict:
    """A whole maintenance of both at once, by default; its record."""
    done = harness("run", "-c", there.configured(before, **update), *options, "--json")
    assert done.code == 0, done.err + done.out
    return done.record


BACK = {"emulator": str(EMULATOR), "again": True}


def journal_of(record: dict) -> tuple[Line, ...]:
    return read(state_dir() / "runs" / record["run_id"] / FILE_NAME).lines


def most_at_once(record: dict) -> int:
    """How many guests were paused at the same time, by the journal's own stamps."""
    changes: list[tuple[int, int]] = []
    for line in journal_of(record):
        if isinstance(line.entry, entries.Paused):
            changes.append((line.entry.began_ns or 0, 1))  # when that was asked for
        elif isinstance(line.entry, entries.Resumed):
            changes.append((line.boottime_ns, -1))  # when it ran
    assert sum(change for _, change in changes) == 0
    return max(accumulate(change for _, change in sorted(changes)))


@pytest.fixture
def told(tmp_path):
    """An update of kind command, and what it was asked to do by then."""
    file, script = tmp_path / "told", tmp_path / "tell.sh"
    script.write_text(f'#!/bin/sh\necho "$1" >> {file}\n')
    script.chmod(0o755)
    stages = {"command": "apply", "verify": "verify", "rollback": "rollback"}
    update: dict[str, str | list[str]] = {
        "kind": "command",
        "scope": "guest",
        "expected_s": "200ms",
        **{key: [str(script), stage] for key, stage in stages.items()},
    }
    return update, lambda: file.read_text().split()


def test_guests_go_on_in_another_qemu_and_back(there, harness):
    """Both at once: same boot, same processes, same RAM files; another process, another version."""
    other = second_qemu()
    first = {name: there.look(name) for name in there.guests}
    record = hop(there, harness, **other)
    verdicts = {c["name"]: c["outcome"] for g in record["guests"] for c in g["checks"]}
    promised = ("ram-inode", "qemu-version", "same-process", "libvirt-events")
    assert {verdicts[name] for name in promised} == {"pass"}, record["guests"][0]["checks"]
    assert most_at_once(record) == 2
    said = [line.entry for line in journal_of(record)]
    measured = [one.start_s for one in said if isinstance(one, entries.Parkable)]
    assert len(measured) == 2, "how long a start may take is measured for each"
    assert all(start_s > 0 for start_s in measured), "0: it could not be measured"
    second = {name: there.look(name) for name in there.guests}
    back = hop(there, harness, "--at-most", "1", **BACK)
    assert [len(domain["guests"]) for domain in back["update_domains"]] == [1, 1]
    assert most_at_once(back) == 1
    for name, before in first.items():
        after = there.look(name)
        assert len({before.process, second[name].process, after.process}) == 3
        assert after.version == before.version
        assert ("tree" not in other) or second[name].version != before.version
        assert after.backings[0].identity == before.backings[0].identity
        there.assert_same(name)
        pair = [release(look.version) for look in (before, second[name])]
        for way in (pair, pair[::-1]):
            assert works(after.libvirt[:2], *way), "to be recorded: harness/updates/qemu/tried.toml"
    there.assert_tidy()


def test_a_replaced_guest_can_be_saved_and_restored_by_anybody(there, harness, tmp_path, told):
    """All of its RAM is written out again, and read in by a QEMU that is told nothing.

    On the way back a command is applied in the same pause, before QEMU is replaced.
    """
    hop(there, harness, **second_qemu())
    image = "/var/lib/libvirt/images/stranger.save"
    for words in (["save", "res-1", image], ["restore", image]):
        done = subprocess.run(["virsh", *words], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    there.assert_same("res-1")
    there.assert_tidy()
    update, asked = told
    record = hop(there, harness, before=update, **BACK)
    assert asked() == ["apply", "verify"]
    (domain,) = record["update_domains"]
    assert [(one["kind"], one["progress"]) for one in domain["updates"]] == [
        ("command", "applied"),
        ("qemu", "applied"),
    ]
    there.assert_same("res-1")


def test_a_command_is_rolled_back_when_the_new_qemu_does_not_start(there, harness, told):
    """It runs under nobody then; the guests are in their old QEMU, which was done in the window."""
    update, asked = told
    broken = wrapper(Path("/var/lib/libvirt/images"), "echo cannot run here >&2; exit 1")
    config = there.configured(update, emulator=str(broken), again=True)
    done = harness("run", "-c", config, "--json")
    assert done.code == 3, done.err + done.out
    assert asked() == ["apply", "rollback"]
    (domain,) = done.record["update_domains"]
    assert [one["progress"] for one in domain["updates"]] == ["rolled back", "rolled back"]
    assert domain["problems"][0].count("it is in its old QEMU again") == 2, domain["problems"]
    for name in there.guests:
        there.assert_same(name)
    there.assert_tidy()


def test_a_guest_with_private_ram_is_refused_with_what_mends_it(lab, harness, tmp_path):
    """At plan time; nothing is paused."""
    config = tmp_path / "qemu.toml"
    config.write_text(lab.config_file.read_text() + '\n[update]\nkind = "qemu"\nagain = true\n')
    for name in ("id_ed25519", "known_hosts"):
        (tmp_path / name).symlink_to(lab.config_file.with_name(name))
    done = harness("plan", "tiny-1", "-c", str(config))
    assert done.code == 2
    assert "tiny-1: its RAM is private memory of its QEMU (fix: harness adopt tiny-1" in done.err
    assert "; or <memoryBacking>" in done.err
