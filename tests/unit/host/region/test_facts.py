"""What a host says of itself, and what keeps its kernel from being replaced: each with its fix."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from harness.core.errors import InfrastructureError
from harness.host.region import facts as looked
from harness.host.region.enrolment import Enrolled
from harness.host.region.facts import HostFacts, Loader, cpu_flags, lockdown, look, secure_boot
from harness.host.region.lacks import lacks
from harness.host.region.place import GIB, Region
from harness.host.region.rehearsal import Rehearsal, changes, hardware, rehearsal, write
from tests.unit.host.region.test_enrolment import ARGUMENT, SET_ASIDE, bench  # noqa: F401

RAM = Path("/ram")
PARTS = {"bios_version": "1.2", "0000:00:02.0": "1af4:1000"}
LINE = f"BOOT_IMAGE=/boot/vmlinuz root=/dev/vda ro {ARGUMENT} quiet"
FIT = HostFacts(
    enrolled=Enrolled(Region(5 * GIB, GIB), ARGUMENT, RAM),
    command_line=LINE,
    set_aside=True,
    folder=RAM,
    folder_on="dax",
    mounted=True,
    loader=Loader(Path("/etc/default/grub.d/x.cfg"), True, (LINE, f"{LINE} single")),
    cpu_flags=frozenset({"fpu", "constant_tsc", "nonstop_tsc"}),
    kexec=True,
    kexec_disabled=False,
    lockdown="none",
    secure_boot=False,
    hardware=PARTS,
    libvirtd=True,
    virtqemud=False,
    rehearsal=Rehearsal("2026-11-27T20:00:00+00:00", "6.1.0", PARTS, "harness.rehearsal=1f"),
)


def test_a_host_that_has_all_lacks_nothing():
    """Also one whose boot loader we cannot read."""
    assert lacks(FIT) == ()
    assert lacks(replace(FIT, loader=Loader(FIT.loader.file, True, None))) == ()
    assert lacks(replace(FIT, loader=Loader(FIT.loader.file, True, ()))) == ()
    known_steady = replace(FIT, cpu_flags=frozenset(), command_line=f"{LINE} tsc=reliable")
    assert lacks(known_steady) == ()


@pytest.mark.parametrize(
    ("changed", "reason", "fix"),
    [
        ({"enrolled": None}, "no memory of this host is set aside", "setup-host --resident SIZE"),
        ({"set_aside": False}, "has not set aside 1024 MiB at 0x140000000", "dmesg"),
        ({"set_aside": False, "command_line": "ro"}, f"has no {ARGUMENT}", "reboot"),
        ({"mounted": False, "folder_on": None}, "not mounted on /ram, which does not", "status"),
        ({"mounted": False, "folder_on": "ext4"}, "on ext4, without DAX", "harness-region.service"),
        ({"mounted": False}, "another file system with DAX", "harness-region.service"),
        ({"folder": Path("/else")}, "libvirt keeps RAM in /else by now", "--resident 1024M"),
        ({"loader": Loader(Path("/x.cfg"), False, (LINE,))}, "/x.cfg is not as", "--region"),
        (
            {"loader": Loader(Path("/x.cfg"), True, (LINE, "root=/dev/vda ro"))},
            f"takes the RAM of guests for its own, as it has no {ARGUMENT}",
            "update-grub",
        ),
        (
            {"loader": Loader(Path("/x.cfg"), True, (f"{LINE} memmap=1G@5G",))},
            "other memory than the kernel that runs",
            "reboot",
        ),
        (
            {"loader": Loader(Path("/x.cfg"), True, ("memmap=1024M!0x100000000",))},
            "takes the RAM of guests for its own",
            "update-grub",
        ),
        ({"kexec": False}, "cannot start another one", "distribution"),
        ({"kexec_disabled": True}, "kexec_load_disabled is 1", "sysctl.d"),
        ({"virtqemud": True}, "virtqemud has the guests", "libvirtd in its place"),
        ({"libvirtd": False}, "there is no libvirtd to bring guests back", "install it"),
        ({"lockdown": "integrity"}, "locked down (integrity)", "lockdown="),
        ({"secure_boot": True}, "Secure Boot is on", "firmware"),
        ({"cpu_flags": frozenset({"constant_tsc"})}, "no nonstop_tsc:", "invtsc"),
        ({"cpu_flags": frozenset()}, "no constant_tsc nonstop_tsc:", "invtsc"),
        ({"rehearsal": None}, "never rehearsed", "--rehearse-kexec"),
        ({"begun": FIT.rehearsal}, "did not come up by it", "console"),
        (
            {"hardware": {**PARTS, "bios_version": "1.3"}},
            "bios_version was 1.2, is 1.3",
            "--rehearse-kexec",
        ),
        (
            {"hardware": {**PARTS, **{f"new{number}": "x" for number in range(5)}}},
            "new2 was not there, is x and 2 more",
            "--rehearse-kexec",
        ),
    ],
)
def test_each_thing_that_is_missing_is_told_with_its_fix(changed, reason, fix):
    """And nothing else is: one thing is missing at a time."""
    (found,) = lacks(replace(FIT, **changed))
    assert reason in found.reason
    assert fix in found.fix
    assert str(found) == f"{found.reason} (fix: {found.fix})"


def test_what_is_missing_of_the_kernel_is_told_of_a_host_that_is_not_set_up_too():
    """So that nobody reboots for nothing."""
    found = lacks(replace(FIT, enrolled=None, secure_boot=True))
    assert len(found) == 2


def test_this_very_host_is_looked_at(bench, monkeypatch, tmp_path):  # noqa: F811
    """By the files that it has, whatever they say."""
    monkeypatch.setattr(looked, "GRUB", tmp_path / "grub.cfg")
    assert look(bench.here).enrolled is None
    bench.here.set_up("1G").make()
    bench.boot(f"quiet {ARGUMENT}", SET_ASIDE)
    (tmp_path / "grub.cfg").write_text(
        "menuentry x {\n\tlinux\t/boot/vmlinuz root=/dev/vda quiet\n\tinitrd /boot/initrd\n}\n"
        f"\t\tlinuxefi /boot/vmlinuz {ARGUMENT}\n\tmultiboot /xen no\n"
    )
    found = look(bench.here)
    assert found.enrolled.argument == ARGUMENT
    assert found.set_aside
    assert not found.mounted
    assert found.loader.as_written
    assert found.loader.lines == ("root=/dev/vda quiet", ARGUMENT)
    bench.here.loader.write_text("# mine\n")
    assert not look(bench.here).loader.as_written
    reasons = [lack.reason for lack in lacks(look(bench.here))]
    assert any("takes the RAM of guests for its own" in reason for reason in reasons)


def test_flags_are_those_of_every_cpu():
    """One socket that lacks it is enough."""
    assert cpu_flags("flags\t: a b c\nbugs: x\n\nflags\t: c b d\n") == {"b", "c"}
    assert cpu_flags("") == frozenset()


def test_lockdown_and_secure_boot_are_read_as_the_kernel_tells_them(tmp_path):
    """Four bytes of attributes come before the value."""
    assert lockdown("none [integrity] confidentiality") == "integrity"
    assert lockdown("[none] integrity confidentiality") == "none"
    assert lockdown("") == "none"
    assert not secure_boot(tmp_path)
    variable = tmp_path / "SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c"
    for value in (b"\x01", b"\x00"):
        variable.write_bytes(b"\x06\x00\x00\x00" + value)
        assert secure_boot(tmp_path) is (value == b"\x01")


def test_hardware_is_firmware_and_devices_without_virtual_ones(tmp_path):
    """A guest's virtual function that comes and goes is no change of this host."""
    (tmp_path / "dmi").mkdir()
    (tmp_path / "dmi/bios_version").write_text("1.2\n")
    (tmp_path / "dmi/product_serial").write_text("secret\n")
    for name in ("0000:00:02.0", "0000:00:02.1"):
        (tmp_path / "pci" / name).mkdir(parents=True)
        (tmp_path / "pci" / name / "vendor").write_text("0x1af4\n")
        (tmp_path / "pci" / name / "device").write_text("0x1000\n")
    (tmp_path / "pci/0000:00:02.1/physfn").mkdir()
    assert hardware(tmp_path / "dmi", tmp_path / "pci") == PARTS
    assert hardware(tmp_path / "none", tmp_path / "none") == {}
    assert list(changes(PARTS, PARTS)) == []
    assert list(changes(PARTS, {})) == [
        "0000:00:02.0 was 1af4:1000, is not there",
        "bios_version was 1.2, is not there",
    ]


def test_a_rehearsal_is_kept_and_read_back(tmp_path):
    """What is there but says nothing is none; what may not be read is told."""
    record = tmp_path / "harness/rehearsal.json"
    assert rehearsal(record) is None
    write(FIT.rehearsal, record)
    assert rehearsal(record) == FIT.rehearsal
    for text in ("", "[]", "{}", json.dumps({"at": 1, "hardware": []})):
        record.write_text(text)
        assert rehearsal(record) is None
    with pytest.raises(InfrastructureError, match="rehearsal"):
        rehearsal(record / "x")
