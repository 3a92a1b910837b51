"""QEMU is replaced under paused guests, RAM in place: real guests, real libvirt, two real QEMUs.

Requires: the session's lab, whose RAM folder is in memory. The second QEMU is that of
``scripts/second-qemu``; where it is not there, guests are parked and come back in the same one.
Leaves behind: nothing.
"""

from __future__ import annotations

import subprocess

import pytest

from tests.residents import Residents, residents, second_qemu


@pytest.fixture(scope="module")
def there(lab, libvirt, tmp_path_factory):
    """Two guests whose QEMU can be replaced."""
    with residents(tmp_path_factory.mktemp("residents"), libvirt) as found:
        yield found


def hop(there: Residents, harness, **update) -> dict:
    """A whole maintenance of both at once; its record."""
    done = harness("run", "-c", there.configured(**update), "--json")
    assert done.code == 0, done.err + done.out
    return done.record


def test_guests_go_on_in_another_qemu_and_back(there, harness):
    """Both at once: same boot, same processes, same RAM files; another process, another version."""
    other = second_qemu()
    first = {name: there.look(name) for name in there.guests}
    record = hop(there, harness, **other)
    verdicts = {c["name"]: c["outcome"] for g in record["guests"] for c in g["checks"]}
    assert verdicts["ram-inode"] == verdicts["qemu-version"] == verdicts["same-process"] == "pass"
    second = {name: there.look(name) for name in there.guests}
    hop(there, harness, emulator="/usr/bin/qemu-system-x86_64", again=True)
    for name, before in first.items():
        after = there.look(name)
        assert len({before.process, second[name].process, after.process}) == 3
        assert after.version == before.version
        assert ("tree" not in other) or second[name].version != before.version
        assert after.backings[0].identity == before.backings[0].identity
        there.assert_same(name)
    there.assert_tidy()


def test_a_replaced_guest_can_be_saved_and_restored_by_anybody(there, harness, tmp_path):
    """All of its RAM is written out again, and read in by a QEMU that is told nothing."""
    hop(there, harness, **second_qemu())
    image = "/var/lib/libvirt/images/stranger.save"
    for words in (["save", "res-1", image], ["restore", image]):
        done = subprocess.run(["virsh", *words], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    there.assert_same("res-1")
    there.assert_tidy()
    hop(there, harness, emulator="/usr/bin/qemu-system-x86_64", again=True)
    there.assert_same("res-1")


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
