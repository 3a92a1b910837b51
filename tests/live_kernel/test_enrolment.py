"""A host is enrolled, boots with the region for its guests' RAM, and is as before when undone."""

from __future__ import annotations

import re

from tests.live_kernel.machine import Machine

FOLDER = "/var/lib/libvirt/qemu/ram"
TRACES = """
cd / && find etc/default etc/systemd etc/apparmor.d var/lib/harness boot/grub -type f \
    -exec sha256sum {} + | sort -k 2
find /etc/systemd /run/harness -type l 2>/dev/null | sort
true
"""


def mounted(host: Machine) -> list[str]:
    """Source, type and options of what is on the folder."""
    said = host.sh(f"findmnt --noheadings --output SOURCE,FSTYPE,OPTIONS {FOLDER} || true")
    return said.split()


def test_a_host_is_enrolled_boots_with_its_region_and_is_undone(host):
    """What is shown beforehand is what is done; nothing of it is left in the end."""
    before = host.sh(TRACES)
    shown = host.harness("setup-host", "--resident", "1G", "--region", "--dry-run")
    assert host.sh(TRACES) == before
    done = host.harness("setup-host", "--resident", "1G", "--region")
    assert re.sub("(?m)^would ", "", shown) == done
    assert "memmap=1024M!0x140000000" in done
    assert all("memmap=1024M!0x140000000" in line for line in host.loader_lines())
    host.sh("systemctl start libvirtd")  # before the reboot it starts as ever
    assert mounted(host) == []
    host.reboot()

    host.sh("systemctl is-active libvirtd || systemctl start libvirtd")
    source, kind, options = mounted(host)
    assert (source, kind) == ("/dev/pmem0", "ext4")
    assert "dax" in options
    host.sh(f"touch {FOLDER}/3-web1")
    assert "nothing is to be changed" in host.harness("setup-host", "--resident", "1G", "--region")
    host.sh(f"rm {FOLDER}/3-web1")
    host.harness("setup-host", "--undo")
    assert mounted(host) == []
    host.reboot()
    assert host.sh(TRACES) == before
    assert "Persistent Memory" not in host.sh("cat /proc/iomem")
