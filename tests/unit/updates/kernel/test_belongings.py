"""What a guest stands on when its host has another kernel, and nothing but its root yet."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from harness.host.kernel import apparmor
from harness.host.parking import RamBacking
from harness.updates.kernel.belongings import lacks_by_live_update, lacks_of_guest, on_the_root
from tests.unit.updates.qemu.test_eligibility import GUEST, backed

RAM = Path("/ram")
LAYER = "<backingStore type='{}'><source {}/></backingStore>"
ON_REGION = backed(file_system="dax").backings


def guest(devices: str = "", os: str = "", backings: tuple[RamBacking, ...] = ON_REGION):
    text = f"<domain><name>web1</name><os>{os}</os><devices>{devices}</devices></domain>"
    return replace(GUEST, description=text, backings=backings)


def there(path: Path) -> bool:
    """Only what is below /srv is elsewhere."""
    if path.name == "gone":
        raise FileNotFoundError(2, "No such file", str(path))
    return not str(path).startswith("/srv")


def disk(source: str, kind: str = "file", more: str = "") -> str:
    return f"<disk type='{kind}'><source {source}/>{more}<target dev='vda'/></disk>"


def nic(kind: str, source: str = "") -> str:
    return (
        f"<interface type='{kind}'><source {source}/><mac address='52:54:00:00:00:01'/></interface>"
    )


@pytest.mark.parametrize(
    "devices",
    [
        "",
        disk("file='/var/a.qcow2'"),
        disk(
            "file='/var/a'", more="<backingStore type='file'><source file='/var/b'/></backingStore>"
        ),
        disk("file='/var/a'", more="<backingStore/>"),
        "<disk type='file' device='cdrom'><target dev='sda'/></disk>",
        nic("bridge", "bridge='br0'"),
        nic("network", "network='default' bridge='virbr0'"),
        nic("user"),
        "<graphics type='vnc'/><serial type='pty'/>",
    ],
)
def test_what_stands_on_the_root_goes_on(devices):
    """Disks that are files, an empty drive, NICs whose tap libvirt makes."""
    os = "<loader>/usr/share/x.fd</loader><nvram>/var/lib/x.fd</nvram>"
    assert lacks_of_guest(guest(devices, os), RAM, there) == ()


@pytest.mark.parametrize(
    ("devices", "reason", "fix"),
    [
        (disk("file='/srv/a.qcow2'"), "its disk vda (/srv/a.qcow2) is not on the root", "move"),
        (
            disk("file='/var/a'", more=LAYER.format("file", "file='/srv/b'")),
            "its disk vda (/srv/b) is not on the root",
            "move",
        ),
        (
            disk("file='/var/a'", more=LAYER.format("block", "dev='/dev/vg/b'")),
            "its disk vda is block /dev/vg/b",
            "a file",
        ),
        (disk("file='/var/gone'"), "its disk vda (/var/gone): No such file", "move"),
        (disk("dev='/dev/vg/a'", "block"), "its disk vda is block /dev/vg/a, which is", "a file"),
        (disk("name='pool/a'", "network"), "its disk vda is network pool/a", "a file"),
        (disk("pool='x'", "volume"), "its disk vda is volume,", "a file"),
        (nic("direct", "dev='eth0'"), "NIC 52:54:00:00:00:01 is of type direct", "bridge"),
        (nic("network", "network='n' dev='eth0'"), "is of type direct", "bridge"),
        (nic("ethernet"), "is of type ethernet", "bridge"),
        (
            "<tpm model='tpm-crb'><backend type='emulator'/></tpm>",
            "a TPM of swtpm's, a program that ends",
            "unplug",
        ),
        (
            "<interface type='user'><backend type='passt'/></interface>",
            "a NIC of passt's",
            "unplug",
        ),
    ],
)
def test_what_stands_on_anything_else_is_told_with_its_fix(devices, reason, fix):
    """And nothing besides."""
    (found,) = lacks_of_guest(guest(devices), RAM, there)
    assert reason in found.reason
    assert fix in found.fix


def test_firmware_on_another_file_system_is_told():
    """As a disk is."""
    (found,) = lacks_of_guest(guest(os="<nvram>/srv/x.fd</nvram>"), RAM, there)
    assert "its nvram (/srv/x.fd) is not on the root" in found.reason


@pytest.mark.parametrize(
    "backings",
    [
        backed(file_system="tmpfs").backings,
        backed(path="/else/1-web1/pc.ram", file_system="dax").backings,
        (RamBacking("memory-backend-memfd"),),
        (*ON_REGION, *backed(file_system="tmpfs").backings),
    ],
)
def test_ram_anywhere_but_on_the_region_ends_with_the_kernel(backings):
    """A tmpfs is enough for another QEMU, and nothing for another kernel; nor is another region."""
    (found,) = lacks_of_guest(guest(backings=backings), RAM, there)
    assert "would end with this kernel" in found.reason
    assert "harness adopt web1" in found.fix


def test_the_root_is_told_from_other_file_systems(tmp_path):
    """By their devices."""
    assert on_the_root(Path("/"))
    assert not on_the_root(Path("/proc/self"))
    with pytest.raises(OSError, match="none"):
        on_the_root(tmp_path / "none")


ON_TMPFS = backed(file_system="tmpfs", path="/ram/1-web1/pc.ram").backings


def test_ram_on_a_tmpfs_can_be_handed_over_by_live_update():
    """Private, on a region, in huge pages or elsewhere it cannot."""
    assert lacks_by_live_update(guest(backings=ON_TMPFS), RAM, there) == ()
    for backings in (
        ON_REGION,
        backed(file_system="hugetlbfs", path="/ram/1-web1/pc.ram").backings,
        backed(file_system="tmpfs", path="/elsewhere/1-web1/pc.ram").backings,
        backed(file_system="", path="").backings,
    ):
        (lack,) = lacks_by_live_update(guest(backings=backings), RAM, there)
        assert "cannot be handed over by live update" in lack.reason
        assert "harness adopt web1" in lack.fix


@pytest.mark.parametrize("model", ["apparmor", "selinux"])
def test_a_confined_guest_is_not_handed_over_by_live_update(model):
    """Its QEMU would have to open what another process holds."""
    label = f"<seclabel type='dynamic' model='{model}'/><seclabel type='none' model='{model}'/>"
    found = guest(backings=ON_TMPFS)
    text = found.description.replace("<devices>", f"{label}<devices>")
    (lack,) = lacks_by_live_update(replace(found, description=text), RAM, there)
    assert f"confined by {model}, with which live update was never tried" in lack.reason


def labelled(model: str):
    """A guest that it confines, by a profile of its own; another one does not."""
    label = f"<seclabel type='dynamic' model='{model}'/><seclabel type='none' model='{model}'/>"
    return replace(
        guest(), description=guest().description.replace("<devices>", f"{label}<devices>")
    )


def test_a_guest_that_apparmor_confines_is_handed_over_where_it_can_be_confined_again(monkeypatch):
    """Before systemd begins, by what its packages have."""
    monkeypatch.setattr(apparmor, "missing", lambda: "")
    assert lacks_of_guest(labelled("apparmor"), RAM, there) == ()
    monkeypatch.setattr(apparmor, "missing", lambda: "no apparmor_parser")
    (lack,) = lacks_of_guest(labelled("apparmor"), RAM, there)
    assert "confined by apparmor, and there is no apparmor_parser" in lack.reason


def test_a_guest_that_selinux_confines_is_not_handed_over():
    """Its policy is in force when systemd has loaded it, and not before."""
    (lack,) = lacks_of_guest(labelled("selinux"), RAM, there)
    assert "confined by selinux, of which systemd loads the policy" in lack.reason


def test_what_a_guest_stands_on_is_the_same_for_both():
    """Disks, NICs, programs beside it."""
    devices = disk("dev='/dev/sdb'", "block") + nic("direct", "dev='eth0'")
    found = lacks_by_live_update(guest(devices, backings=ON_TMPFS), RAM, there)
    assert len(found) == 2
