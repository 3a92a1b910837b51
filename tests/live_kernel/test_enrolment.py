"""A host is enrolled, boots with the region for its guests' RAM, and is as before when undone."""

from __future__ import annotations

import re

from tests.live_kernel.machine import Machine

FOLDER = "/var/lib/libvirt/qemu/ram"
ARGUMENT = "memmap=1024M!0x140000000"
SET_UP = ("setup-host", "--resident", "1G", "--region")
LAB = "/root/.local/state/harness/lab/harness.toml"
TRACES = r"""
cd / && find etc/default etc/systemd etc/apparmor.d boot/grub -type f \
    -exec sha256sum {} + | sort -k 2
find /etc/systemd /run/harness -type l 2>/dev/null | sort
ls /var/lib/harness 2>/dev/null
true
"""
#: Which device a guest's RAM is on, by its QEMU's own memory, and which device the folder is on.
WHERE = f"""pid=$(cat /run/libvirt/qemu/lab-1.pid)
awk '/pc.ram/ {{ print $4; exit }}' /proc/$pid/maps; stat -c %Hd:%Ld {FOLDER}"""
#: How many major faults the first touch of 1 MiB takes in a file, and how many the second.
TOUCH = f"""python3 - <<'END'
import mmap, os, resource
faults = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_majflt
file = os.open("{FOLDER}/touched", os.O_RDWR | os.O_CREAT)
os.ftruncate(file, 1 << 20)
memory = mmap.mmap(file, 1 << 20)
counts = [faults()]
for _ in range(2):
    for at in range(0, 1 << 20, 4096):
        memory[at] = 1
    counts.append(faults())
os.unlink("{FOLDER}/touched")
print(counts[1] - counts[0], counts[2] - counts[1])
END"""
BOOT_ID = ("lab", "ssh", "lab-1", "cat /proc/sys/kernel/random/boot_id")


def mounted(host: Machine) -> list[str]:
    """Source, type and options of what is on the folder."""
    said = host.sh(f"findmnt --noheadings --output SOURCE,FSTYPE,OPTIONS {FOLDER} || true")
    return said.split()


def test_a_host_is_enrolled_keeps_guests_there_survives_a_kexec_and_is_undone(host):
    """What is shown beforehand is what is done; nothing of it is left in the end."""
    before = host.sh(TRACES)
    shown = host.harness(*SET_UP, "--dry-run")
    assert host.sh(TRACES) == before
    done = host.harness(*SET_UP)
    assert re.sub("(?m)^would ", "", shown) == done
    assert ARGUMENT in done
    assert all(ARGUMENT in line for line in host.loader_lines())
    host.sh("systemctl start libvirtd")  # before the reboot it starts as ever
    assert mounted(host) == []
    level, detail = host.doctor()["memory region"]
    assert level == "problem"
    assert f"has no {ARGUMENT}" in detail
    host.reboot()

    host.sh("systemctl start libvirtd")
    source, kind, options = mounted(host)
    assert (source, kind) == ("/dev/pmem0", "ext4")
    assert "dax" in options
    assert "nothing is to be changed" in host.harness(*SET_UP)
    assert host.doctor()["memory region"][0] == "ok"
    first, second = map(int, host.sh(TOUCH).split())
    assert first > 100 > second  # what check `ram` does not take for RAM that was read in again
    a_guest_is_moved_there(host)

    level, detail = host.doctor()["replacing the kernel"]
    assert (level, "never rehearsed" in detail) == ("warning", True)
    host.rehearse()
    level, detail = host.doctor()["replacing the kernel"]
    assert (level, "was rehearsed" in detail) == ("ok", True), detail
    assert mounted(host)[:2] == ["/dev/pmem0", "ext4"]

    host.harness("setup-host", "--undo")
    assert mounted(host) == []
    host.reboot()
    assert host.sh(TRACES) == before
    assert "Persistent Memory" not in host.sh("cat /proc/iomem")


def a_guest_is_moved_there(host: Machine) -> None:
    """Without a boot; its RAM is the region then, and its QEMU can be replaced."""
    words = ("-n", "1", "--image", "tiny", "--accelerator", "kvm", "--timeout", "900s")
    host.harness("lab", "up", *words)
    boot_id = host.harness(*BOOT_ID)
    host.sh(f"harness adopt lab-1 --budget 600s --no-report --config {LAB} || true")
    ram, folder = host.sh(WHERE).split()
    assert [int(part, 16) for part in ram.split(":")] == [int(part) for part in folder.split(":")]
    level, detail = host.doctor()["update kind qemu"]  # none is configured
    assert (level, "the QEMU of 1 of 1 running guests" in detail) == ("ok", True), detail
    assert host.harness(*BOOT_ID) == boot_id
    host.harness("lab", "down")
