"""Whose QEMU can be replaced: each reason why not, with what fixes it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from harness.testing.parking import eligible
from harness.updates.qemu.eligibility import (
    obstacles,
    remarks,
    unfit_pair,
    unfit_states,
)

GUEST = eligible("web1", "uuid-web1")
BACKING = GUEST.backings[0]


def described(inside: str, place: str = "<devices>"):
    return replace(GUEST, description=GUEST.description.replace(place, place + inside))


def backed(**changes):
    return replace(GUEST, backings=(replace(BACKING, **changes),))


def test_an_ordinary_guest_with_its_ram_in_a_shared_file_can_be_replaced():
    """Nothing is in its way."""
    assert obstacles(GUEST) == ()


@pytest.mark.parametrize(
    ("look", "reason", "fix"),
    [
        (replace(GUEST, process=None, backings=()), "cannot be seen", "as root"),
        (replace(GUEST, backings=()), "private memory", "<source type='file'/>"),
        (backed(kind="memory-backend-ram"), "private memory", "<source type='file'/>"),
        (backed(kind="memory-backend-memfd"), "a memfd", "<source type='file'/>"),
        (backed(shared=False), "mapped privately", "<access mode='shared'/>"),
        (backed(discard=True), "drops its RAM", "<discard/>"),
        (backed(mapped=False), "/ram/1-web1/pc.ram is not its RAM", "cold boot"),
        (backed(links=2), "has 2 names", "harness recover"),
        (backed(links=0), "has no name that could be kept", "harness adopt"),
        (backed(file_system="ext4"), "on ext4", "tmpfs /ram tmpfs"),
        (backed(file_system=""), "unknown file system", "tmpfs"),
        (
            described("<hugepages/>", "<memoryBacking>"),
            "<hugepages/>",
            "take <hugepages/> out",
        ),
        (described("<hostdev mode='subsystem' type='pci'/>"), "hostdev", "<hostdev>"),
        (described("<interface type='hostdev'/>"), "network device of the host", "<interface>"),
        (described("<interface type='vdpa'/>"), "vDPA", "<interface>"),
        (described("<filesystem type='mount'/>"), "shared folder", "<filesystem>"),
        (described("<shmem name='x'/>"), "shared memory", "<shmem>"),
        (described("<memory model='nvdimm'/>"), "NVDIMM", "<memory>"),
        (described("<disk><transient/></disk>"), "transient disk", "<transient>"),
        (described("<tpm><backend type='passthrough'/></tpm>"), "the host's own TPM", "<backend>"),
        (described("<tpm><backend type='external'/></tpm>"), "libvirt does not run", "<backend>"),
        (replace(GUEST, jobs=("vda",)), "block job is under way: vda", "blockjob web1 vda --abort"),
        (replace(GUEST, blocked=("vfio",)), "cannot write its state: vfio", "unplug"),
        (replace(GUEST, capable=True), "left out when it is saved", "harness recover"),
        (replace(GUEST, same_short_name=("web1-b",)), "that of web1-b", "domrename"),
        (
            described("<x/></devices><seclabel type='static' model='apparmor'/><devices>"),
            "confined by apparmor by a profile of its owner",
            "security_driver",
        ),
    ],
)
def test_every_reason_is_told_with_what_fixes_it(look, reason, fix):
    """One obstacle each: none is taken for another."""
    (found,) = obstacles(look)
    assert reason in found.reason
    assert fix in found.fix
    assert str(found) == f"{found.reason} (fix: {found.fix})"


@pytest.mark.parametrize(
    "look",
    [
        described("<tpm model='tpm-crb'><backend type='emulator'/></tpm>"),
        described("<loader type='pflash'>x</loader><nvram>y</nvram>", "hvm</type>"),
    ],
)
def test_a_tpm_that_libvirt_runs_and_uefi_are_no_obstacle(look):
    """Real guests with both are replaced in the drills."""
    assert obstacles(look) == ()


def test_labels_that_confine_nobody_are_no_obstacle():
    """The ownership of files, and no label."""
    label = "<x/></devices><seclabel type='{}' model='{}'/><devices>"
    for one in (("dynamic", "dac"), ("none", "selinux"), ("dynamic", "apparmor")):
        assert obstacles(described(label.format(*one))) == ()


def test_under_apparmor_without_its_rules_nobody_is_parked():
    """The way back may lead through a QEMU of a folder, which libvirt could not look at."""
    confined = described("<x/></devices><seclabel type='dynamic' model='apparmor'/><devices>")
    lack = "AppArmor: /etc/x has not the rules of harness"
    (found,) = obstacles(replace(confined, without_rules=(lack,)))
    assert found.reason.startswith(lack)
    assert "harness setup-host --resident" in found.fix


def test_every_piece_of_ram_is_judged():
    """Of two NUMA nodes one is private."""
    private = replace(BACKING, kind="memory-backend-ram", path="")
    (found,) = obstacles(replace(GUEST, backings=(BACKING, private)))
    assert "private" in found.reason


@pytest.mark.parametrize(
    ("libvirt", "version", "said"),
    [
        ((9, 0, 0), "10.0.2 (Debian)", None),
        ((9, 0, 0), "11.1.3", "libvirt 9.0 cannot bring a guest into QEMU 11.1 and back"),
        ((12, 8, 0), "11.1.3", None),
        ((12, 7, 9), "11.1.3", "libvirt 12.7 cannot"),
        ((9, 0, 0), "5.2.0", "too old"),
    ],
)
def test_pairs_that_do_not_work_are_known(libvirt, version, said):
    """Of libvirt and QEMU."""
    found = unfit_pair(libvirt, version)
    assert (said in found.reason) if said else found is None


def test_a_qemu_that_refuses_the_states_of_another_is_known():
    """Tried on real guests; other versions are not judged by it."""
    found = unfit_states("10.0.13 (Debian 1:10.0.13+ds-0+deb13u1)", "11.1.3 (Debian)")
    assert found is not None
    assert "refuses the state of virtio devices" in found.reason
    assert unfit_states("10.0.2", "11.1.3") is None
    assert unfit_states("11.1.3", "10.0.13") is None


def test_what_a_person_should_know_is_said():
    """And what was never tried."""
    look = described("<graphics type='vnc'/><console type='pty'/>")
    text = look.description.replace("<memory>", "<genid>1</genid><memory>")
    look = replace(look, description=text)
    said = " ".join(remarks(look, "10.0.2"))
    for word in ("generation id", "VNC", "console", "tainted"):
        assert word in said
    assert "never tried" not in said
    assert "never tried" in " ".join(remarks(look, "10.2.0"))
    assert "never tried" in " ".join(remarks(replace(look, libvirt=(12, 0, 0)), "10.0.2"))
    newer = replace(look, libvirt=(12, 9, 0), version="11.1.3 (Debian)")
    assert "never tried" not in " ".join(remarks(newer, "11.1.3"))
    assert "QEMU 11.1 → 10.0 was never tried" in " ".join(remarks(newer, "10.0.13"))
