"""What a host needs for guests whose QEMU can be replaced: asked for, done, and undone again."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner

from harness.cli.main import cli
from harness.core.errors import InfrastructureError, UsageError
from harness.host import resident_setup, setup_steps
from harness.host.resident_setup import Host

OWNERS = "  /srv/guests/** rwk,\n"
HELPER = "usr.lib.libvirt.virt-aa-helper"


@pytest.fixture
def host(tmp_path, monkeypatch) -> Host:
    """A host with AppArmor, the owner's own additions, and RAM on a disk."""
    found = Host(
        tmp_path / "qemu/ram", tmp_path / "units", tmp_path / "apparmor.d", tmp_path / "loaded"
    )
    found.loaded.write_text("virt-aa-helper (enforce)\n/usr/sbin/libvirtd (enforce)\n")
    (found.apparmor / "local").mkdir(parents=True)
    for profile in ("usr.sbin.libvirtd", HELPER):
        (found.apparmor / profile).touch()
    local(found).write_text(OWNERS)
    monkeypatch.setattr(resident_setup, "file_system", lambda path: mounted[0])
    monkeypatch.setattr(setup_steps, "run", lambda words: ran.append(words))
    monkeypatch.setattr(Host, "this", lambda: found)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    mounted[:], ran[:] = ["ext4"], []
    return found


mounted: list[str] = []
ran: list[tuple[str, ...]] = []


def local(host: Host) -> Path:
    return host.apparmor / "local/usr.sbin.libvirtd"


def helpers(host: Host) -> Path:
    return host.apparmor / "local" / HELPER


def files(folder: Path) -> dict[str, str]:
    found = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): path.read_text() for path in found}


def test_what_is_missing_is_set_up_once_and_undone(host, tmp_path):
    """The second time nothing is changed; in the end everything is as it was."""
    before = files(tmp_path)
    assert len(list(host.missing())) == 3
    host.set_up("8G").make()
    unit = host.unit.read_text()
    assert f"Where={host.folder}\n" in unit
    assert "size=8G\n" in unit
    assert local(host).read_text().startswith(OWNERS)
    assert "emulators/*/qemu-system-* PUx," in local(host).read_text()
    assert [words[0] for words in ran] == ["systemctl", "systemctl", "apparmor_parser"]
    assert ran[1] == ("systemctl", "enable", "--now", host.unit.name)
    mounted[:] = ["tmpfs"]
    assert list(host.missing()) == []
    assert host.set_up("8G").nothing
    ran.clear()
    host.undo().make()
    assert ran[0] == ("systemctl", "disable", "--now", host.unit.name)
    assert {**before, "apparmor.d/local/usr.lib.libvirt.virt-aa-helper": ""} == files(tmp_path)
    assert host.undo().nothing


def test_a_profile_that_is_switched_off_stays_so(host):
    """Loading it would confine a libvirtd whose owner has decided otherwise."""
    host.loaded.write_text("virt-aa-helper (enforce)\nlibvirtd//qemu_bridge_helper (enforce)\n")
    assert len(list(host.missing())) == 2
    done = host.set_up("8G")
    assert [one.path for one in done.files] == [host.unit, helpers(host)]
    assert done.after[-1] == ("apparmor_parser", "--replace", f"{host.apparmor}/{HELPER}")
    host.loaded.unlink()
    assert not host.set_up("8G").files[1:]
    done.make()
    undone = host.undo()
    assert [one.path for one in undone.files] == [host.unit, helpers(host)]
    assert undone.after == (("systemctl", "daemon-reload"),)


def test_another_size_is_remounted(host):
    """Guests that run keep their RAM."""
    host.set_up("8G").make()
    mounted[:] = ["tmpfs"]
    again = host.set_up("16G")
    assert ("mount", "-o", "remount,size=16G", str(host.folder)) in again.after
    assert [one.path for one in again.files] == [host.unit]


def test_a_folder_that_is_in_memory_already_is_so_after_the_next_boot_too(host):
    """Somebody has mounted it by hand: guests keep their RAM, and the unit is enabled."""
    mounted[:] = ["tmpfs"]
    done = host.set_up("8G")
    assert ("systemctl", "enable", host.unit.name) in done.after
    assert not any("--now" in words for words in done.after)


def test_ram_of_guests_is_neither_hidden_nor_taken_away(host):
    """A mount over files in use, or an unmount of them, would be the end of somebody."""
    host.set_up("8G").make()
    (host.folder / "3-web1").mkdir(parents=True)
    mounted[:] = ["tmpfs"]
    with pytest.raises(UsageError, match="holds the RAM of guests: 3-web1"):
        host.undo()
    host.unit.unlink()
    mounted[:] = ["ext4"]
    with pytest.raises(UsageError, match="holds files, of guests that run: 3-web1"):
        host.set_up("8G")


@pytest.mark.parametrize("size", ["", "0", "8 G", "8G\nWhat=x", "200%", "-1"])
def test_a_size_that_is_none_is_refused(host, size):
    """It is written into a unit of systemd's."""
    with pytest.raises(UsageError, match="whole number with K, M or G"):
        host.set_up(size)


@pytest.mark.skipif(shutil.which("systemd-escape") is None, reason="needs systemd-escape")
@pytest.mark.parametrize("path", ["/var/lib/libvirt/qemu/ram", "/a-b/.c d/ä", "/.x/y_z.1"])
def test_a_unit_is_called_as_systemd_wants_it(path):
    """Else it refuses it."""
    words = ["systemd-escape", "--path", "--suffix=mount", path]
    said = subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip()
    assert Host(Path(path)).unit.name == said


def harness(*words: str):
    return CliRunner().invoke(cli, ["setup-host", *words], standalone_mode=False)


def test_a_dry_run_prints_every_change_and_makes_none(host, tmp_path):
    """Files with their content, commands word for word."""
    before = files(tmp_path)
    said = harness("--resident", "8G", "--dry-run").stdout
    assert f"would write {host.unit}" in said
    assert "    Options=mode=0755,nosuid,nodev,noexec,size=8G" in said
    assert "would run: systemctl enable --now" in said
    assert files(tmp_path) == before
    assert ran == []
    told = json.loads(harness("--resident", "8G", "--dry-run", "--json").stdout)
    assert [one["path"] for one in told["files"]][0] == str(host.unit)


def test_it_says_what_it_does_and_does_it(host):
    """Also that there is nothing to be done; and the way back."""
    assert f"write {host.unit}" in harness("--resident", "8G").stdout
    assert host.unit.exists()
    mounted[:] = ["tmpfs"]
    assert "nothing is to be changed" in harness("--resident", "8G").stdout
    said = harness("--undo").stdout
    assert f"remove {host.unit}" in said
    assert f"take our rules from {local(host)}" in said
    assert not host.unit.exists()


@pytest.mark.parametrize("words", [(), ("--resident", "8G", "--undo")])
def test_what_is_wanted_has_to_be_said(host, words):
    """One of the two."""
    with pytest.raises(UsageError, match="one of --resident SIZE, --rehearse-kexec and --undo"):
        raise harness(*words).exception


def test_only_root_sets_a_host_up(host, monkeypatch):
    """Anybody may look what it would be."""
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert "needs root" in str(harness("--resident", "8G").exception)
    assert harness("--resident", "8G", "--dry-run").exit_code == 0
    assert ran == []


def test_a_command_that_fails_is_told_with_its_words():
    """As it was said."""
    with pytest.raises(InfrastructureError, match="ls /nowhere failed: .*No such file"):
        setup_steps.run(("ls", "/nowhere"))
    with pytest.raises(InfrastructureError, match="no-such-program"):
        setup_steps.run(("no-such-program",))
