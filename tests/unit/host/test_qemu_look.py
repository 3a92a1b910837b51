"""One look at a running guest: what its QEMU was told of its RAM, and what libvirt tells of it."""

from __future__ import annotations

import json
import os
from pathlib import Path

import libvirt
import pytest

from harness.core.errors import HypervisorError
from harness.core.timebase import Deadline
from harness.host.driver import LibvirtHypervisor
from harness.host.luo import held_ram
from harness.host.mounts import IN_MEMORY, file_system
from harness.host.parking import ProcessIdentity
from harness.host.qemu_look import backings, look
from harness.host.qemu_memory import maps_files
from harness.host.ram_links import identity
from harness.host.resident_setup import Host

ANSWERS = {
    "query-version": {
        "qemu": {"major": 10, "minor": 0, "micro": 2},
        "package": "Debian 1:10.0.2+ds-2",
    },
    "query-migrate": {"blocked-reasons": ["vfio does not migrate"]},
    "query-block-jobs": [{"device": "vda"}],
    "query-migrate-capabilities": [{"capability": "x-ignore-shared", "state": True}],
    "x-query-virtio": [],
}


@pytest.fixture
def process(tmp_path):
    """A process in a made-up /proc, with its RAM in files of this test."""
    file = tmp_path / "1-web1" / "pc.ram"
    file.parent.mkdir()
    file.write_bytes(b"RAM")
    proc = tmp_path / "proc"
    (proc / "9").mkdir(parents=True)
    told = [
        {"qom-type": "memory-backend-file", "id": "pc.ram", "mem-path": str(file), "share": True},
        {"qom-type": "memory-backend-memfd", "id": "x", "discard-data": True},
        {"qom-type": "tls-creds-x509"},
    ]
    words = ["qemu-system-x86_64", "-object", *map(json.dumps, told), "{no JSON"]
    (proc / "9/cmdline").write_bytes(b"\0".join(word.encode() for word in words))
    about = file.stat()
    device = f"{os.major(about.st_dev):02x}:{os.minor(about.st_dev):02x}"
    (proc / "9/maps").write_text(
        f"7f00-7f01 rw-s 00000000 {device} {about.st_ino} {file}\n7f02-7f03 rw-p 0 00:00 0\n"
    )
    return ProcessIdentity(9, 9), proc, file


def test_ram_is_what_qemu_was_told_and_what_it_has_in_memory(process):
    """The file at that path now, and whether the process has that very one."""
    one, proc, file = process
    shared, memfd = backings(one, proc)
    assert (shared.kind, shared.path, shared.shared) == ("memory-backend-file", str(file), True)
    assert (shared.identity, shared.links, shared.mapped) == (identity(file.stat()), 1, True)
    assert shared.file_system == file_system(file.parent)
    assert (memfd.path, memfd.discard, memfd.mapped) == ("", True, False)


def test_ram_without_a_name_is_what_a_process_holds_open(process):
    """As it is of a guest that came over from another kernel."""
    one, proc, file = process
    with file.open() as opened:
        held_ram.take_name(file, f"/proc/{os.getpid()}/fd/{opened.fileno()}")
        found = backings(one, proc)[0]
        assert (found.links, found.mapped) == (0, True)
    assert not backings(one, proc)[0].mapped


def test_a_file_that_was_replaced_is_not_its_ram(process):
    """Same name, another inode."""
    one, proc, file = process
    file.with_name("new").write_bytes(b"RAM")
    os.replace(file.with_name("new"), file)
    assert not backings(one, proc)[0].mapped


def test_a_process_that_is_gone_has_no_ram(process):
    """It is said; and nothing is taken for its."""
    gone = ProcessIdentity(10, 1)
    with pytest.raises(HypervisorError, match="process 10 cannot be looked at"):
        backings(gone, process[1])
    assert not maps_files(10, {"1:1"}, process[1])


def test_libvirt_and_qemu_are_asked_once_each():
    """On libvirt's test driver, whose guest has no process."""
    connection = libvirt.open("test:///default")
    domain = connection.lookupByName("test")
    seen = look(domain, connection, None, lambda _, command: ANSWERS[command])
    connection.close()
    assert (seen.name, seen.number, seen.highest_id) == ("test", 1, 1)
    assert seen.version == "10.0.2 (Debian 1:10.0.2+ds-2)"
    assert (seen.blocked, seen.jobs, seen.capable) == (("vfio does not migrate",), ("vda",), True)
    assert (seen.backings, seen.same_short_name) == ((), ())
    assert seen.persistent
    assert "<domain" in seen.description
    assert seen.libvirt[0] >= 9


def test_what_apparmor_lacks_is_asked_for_a_guest_that_it_confines(tmp_path, monkeypatch):
    """And for no other."""
    host = Host(tmp_path, tmp_path, tmp_path, tmp_path / "loaded")
    (tmp_path / "usr.sbin.libvirtd").touch()
    host.loaded.write_text("libvirtd (enforce)\n")
    monkeypatch.setattr(Host, "this", lambda: host)
    connection = libvirt.open("test:///default")
    plain = (
        "<domain type='test'><name>{}</name><memory>9</memory><os><type>hvm</type></os>{}</domain>"
    )
    label = "<seclabel type='static' model='apparmor'><label>libvirt-x</label></seclabel>"
    found = [
        look(connection.createXML(plain.format(*one)), connection, None, lambda _, c: ANSWERS[c])
        for one in (("web1", ""), ("web2", label))
    ]
    connection.close()
    assert found[0].without_rules == ()
    assert "usr.sbin.libvirtd has not the rules" in found[1].without_rules[0]


def test_a_driver_that_is_not_qemu_cannot_be_looked_at():
    """What libvirt cannot do comes out as an error of ours."""
    with pytest.raises(HypervisorError):
        hypervisor = LibvirtHypervisor.open("test:///default", Deadline.after(10))
        try:
            uuid = hypervisor.find("test", Deadline.after(10)).uuid
            hypervisor.parking.look(uuid, Deadline.after(10))
        finally:
            hypervisor.close()


def test_a_probe_of_what_is_no_qemu_is_refused():
    """By libvirt, in its words."""
    hypervisor = LibvirtHypervisor.open("test:///default", Deadline.after(10))
    try:
        with pytest.raises(HypervisorError):
            hypervisor.parking.probe("/bin/true", "x86_64", "q35", "nonsense", Deadline.after(10))
    finally:
        hypervisor.close()


def test_the_file_system_of_a_path_is_told(tmp_path):
    """By the kernel's table; nothing for what is not there."""
    assert file_system(Path("/proc")) == "proc"
    assert file_system(tmp_path / "none") is None
    (tmp_path / "table").write_text("1 2 0:0 / / rw - ext4 x rw\n")
    assert file_system(tmp_path, tmp_path / "table") is None


@pytest.mark.parametrize(
    ("options", "kind"),
    [
        ("rw,dax=always", "dax"),
        ("rw,dax", "dax"),
        ("rw,dax=never", "ext4"),
        ("rw,dax=inode", "ext4"),
        ("rw", "ext4"),
    ],
)
def test_a_file_system_with_dax_is_memory(tmp_path, options, kind):
    """Its files are mapped where they are; kernels say it in two ways, and say when it is off."""
    device = os.stat(tmp_path).st_dev
    number = f"{os.major(device)}:{os.minor(device)}"
    table = tmp_path / "table"
    table.write_text(f"1 2 {number} / / rw,noatime shared:1 - ext4 /dev/pmem0 {options}\n")
    assert file_system(tmp_path, table) == kind
    assert (kind in IN_MEMORY) is options.endswith(("dax", "always"))
