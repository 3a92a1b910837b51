"""Where resident guests' RAM is, and what is mounted for it; nothing is mounted here for real."""

from __future__ import annotations

import subprocess
from xml.etree import ElementTree

import pytest

from harness.core.errors import LabError, UsageError
from harness.host import ram_folder
from harness.lab import resident
from harness.lab.domain import BootFiles, domain_xml
from harness.lab.specs import GuestSpec, default_specs


def test_the_folder_is_libvirts_own_or_what_its_configuration_says(tmp_path):
    """The last line counts; a comment does not."""
    conf = tmp_path / "qemu.conf"
    assert str(ram_folder.backing_folder(conf)) == "/var/lib/libvirt/qemu/ram"
    conf.write_text('#memory_backing_dir = "/x"\nmemory_backing_dir = "/dev/hugepages/ram"\n')
    assert str(ram_folder.backing_folder(conf)) == "/dev/hugepages/ram"
    assert ram_folder.fstab_line(tmp_path).startswith(f"tmpfs {tmp_path} tmpfs mode=0755")


def test_a_folder_in_memory_needs_nothing(tmp_path, monkeypatch):
    """Whoever runs libvirtd."""
    monkeypatch.setattr(resident, "file_system", lambda path: "tmpfs")
    assert not resident.needs_mount(tmp_path / "ram", borrowed=True)
    assert (tmp_path / "ram").is_dir()


def test_nothing_is_mounted_over_the_files_of_a_libvirtd_that_runs(tmp_path, monkeypatch):
    """Its guests may have RAM in there; the line that helps is told."""
    monkeypatch.setattr(resident, "file_system", lambda path: "ext4")
    assert resident.needs_mount(tmp_path / "ram", borrowed=False)
    with pytest.raises(UsageError, match=r"is on ext4.*/etc/fstab: tmpfs"):
        resident.needs_mount(tmp_path / "ram", borrowed=True)


def test_it_is_mounted_and_unmounted_by_the_systems_programs(tmp_path, monkeypatch):
    """What is no mount is not unmounted; what fails is said."""
    ran = []

    def run(command, **_):
        ran.append(command[0])
        return subprocess.CompletedProcess(command, 0 if command[0] == "mount" else 32, "", "busy")

    monkeypatch.setattr("subprocess.run", run)
    resident.mount(tmp_path)
    resident.unmount(tmp_path)
    assert ran == ["mount"]
    monkeypatch.setattr(resident, "file_system", lambda path: "tmpfs")
    monkeypatch.setattr(type(tmp_path), "is_mount", lambda path: True)
    with pytest.raises(LabError, match="umount .*: busy"):
        resident.unmount(tmp_path)


def test_a_resident_guest_has_its_ram_in_a_shared_file(tmp_path):
    """And no other guest has."""
    for spec in default_specs(1, "tiny", resident=True), [GuestSpec("x", "tiny")]:
        xml = domain_xml(spec[0], BootFiles(tmp_path / "log"), "net", "tcg")
        backing = ElementTree.fromstring(xml).find("memoryBacking")
        assert (backing is not None) is spec[0].resident
        if backing is not None:
            assert backing.find("source").get("type") == "file"
            assert backing.find("access").get("mode") == "shared"
