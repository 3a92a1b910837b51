"""libvirt's cache of QEMUs, as it is to be under another kernel."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.host.kernel.kexec import KernelImage
from harness.host.kernel.qemus_known import as_libvirt, is_as_it_comes, prepared, with_cpuid

IMAGE = KernelImage(Path("vmlinuz"), "6.12.95", "#1 SMP")
ENTRY = """<qemuCaps>
  <cpudata arch='x86'>
    <cpuid eax_in='0x00000000' ecx_in='0x00000000' eax='0x1' ebx='0x0' ecx='0x0' edx='0x0'/>
  </cpudata>
  <kernelVersion>6.1.0 #1 SMP</kernelVersion>
</qemuCaps>
"""
NAMED = "<domain><cpu mode='custom'><model>EPYC</model></cpu></domain>"
PLAIN = "<domain><cpu mode='host-passthrough' check='none' migratable='on'/></domain>"
LONG = """<qemuCaps>
  <flag name='vhost-net'/>
  <flag name='cpu-unavailable-features'/>
  <cpu type='kvm' name='athlon' usable='no'>
    <blocker name='3dnow'/>
    <blocker name='3dnowext'/>
  </cpu>
  <kernelVersion>6.1.0 #1 SMP</kernelVersion>
</qemuCaps>
"""
SHORT = """<qemuCaps>
  <flag name='vhost-net'/>
{}  <cpu type='kvm' name='athlon' usable='no'>
  </cpu>
  <kernelVersion>6.12.95 #1 SMP</kernelVersion>
</qemuCaps>
"""


def test_an_entry_names_the_kernel_that_is_to_come(tmp_path):
    """And nothing else of it is another; the cache itself stays as it is."""
    (tmp_path / "a.xml").write_text(ENTRY)
    (tmp_path / "b.status").write_text("")
    found = prepared(IMAGE, [NAMED], tmp_path)
    assert found == {"a.xml": ENTRY.replace("6.1.0 #1 SMP", "6.12.95 #1 SMP")}
    assert (tmp_path / "a.xml").read_text() == ENTRY


def test_a_host_without_a_cache_has_no_entries(tmp_path):
    """libvirt then asks QEMU."""
    assert prepared(IMAGE, [], tmp_path / "none") == {}


def test_the_cpuid_of_the_new_kernel_takes_the_place_of_the_old_ones():
    """Leaves in order, empty ones left out, and what names the CPU that asks."""
    leaves = [
        (0xB, 1, 0, 1, 2, 3, 0x1234, 0, 0, 0),
        (0x1, 0, 0, 5, 0x12345678, 7, 8, 0, 0, 0),
        (0x2, 0, 0, 0, 0, 0, 0, 0, 0, 0),
    ]
    told = as_libvirt(leaves)
    assert told.splitlines() == [
        "    <cpuid eax_in='0x00000001' ecx_in='0x00000000' eax='0x00000005' ebx='0x00345678' "
        "ecx='0x00000007' edx='0x00000008'/>",
        "    <cpuid eax_in='0x0000000b' ecx_in='0x00000001' eax='0x00000001' ebx='0x00000002' "
        "ecx='0x00000003' edx='0x00001200'/>",
    ]
    lines = with_cpuid(ENTRY, told).splitlines()
    assert lines[2:4] == told.splitlines()
    assert (lines[1], lines[4]) == ("  <cpudata arch='x86'>", "  </cpudata>")


def test_an_entry_without_kvm_stays_as_it_is():
    """Of a QEMU that only emulates."""
    plain = "<qemuCaps>\n</qemuCaps>\n"
    assert with_cpuid(plain, "x") == plain


def test_a_qemu_is_asked_for_each_property_only_where_a_cpu_is_compared(tmp_path):
    """One guest whose CPU has a name is enough; what models lack is left out in any case."""
    (tmp_path / "a.xml").write_text(LONG)
    assert prepared(IMAGE, [PLAIN, PLAIN], tmp_path) == {"a.xml": SHORT.format("")}
    each = SHORT.format("  <flag name='cpu-unavailable-features'/>\n")
    assert prepared(IMAGE, [PLAIN, NAMED], tmp_path) == {"a.xml": each}


@pytest.mark.parametrize(
    ("inside", "plain"),
    [
        ("", True),
        ("<cpu mode='maximum'/>", True),
        ("<cpu mode='host-passthrough'><topology sockets='1'/></cpu>", True),
        ("<cpu mode='host-model'/>", False),
        ("<cpu><model>EPYC</model></cpu>", False),
        ("<cpu mode='host-passthrough'><feature policy='require' name='invtsc'/></cpu>", False),
        ("<features><hyperv><relaxed state='on'/></hyperv></features>", False),
        ("<features><pvspinlock state='on'/></features>", False),
        ("<features><acpi/></features>", True),
    ],
)
def test_a_cpu_is_as_it_comes_where_libvirt_looks_for_no_feature_of_it(inside, plain):
    assert is_as_it_comes(f"<domain>{inside}</domain>") is plain
