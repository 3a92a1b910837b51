#!/opt/harness/.venv/bin/python -I
"""In the box, before the kexec: `host.py setup`, `host.py load RELEASE INITRD`, `host.py go`.

Guests as kind `qemu` wants them, with their RAM on a DAX mount; the recipe is that of
`harness.host.parker`, by hand and without its care: nobody's guests are in this box.
"""

import ctypes
import json
import os
import re
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import libvirt
import libvirt_qemu

sys.path.insert(0, os.path.dirname(__file__))
import tsc

RAM = Path("/var/lib/libvirt/qemu/ram")
KEEP = RAM / "keep"
CACHE = Path("/var/cache/libvirt/qemu/capabilities")
PREPARED = Path("/kernel/capabilities")
SERIAL = {"g1": "/dev/ttyS1", "g2": "/dev/ttyS2"}
LINE = "console=ttyS0 quiet root=/dev/vda rw memmap=1G!4G mitigations=off nowatchdog"
_FILE_LOAD, _REBOOT = 320, 169

DOMAIN = """<domain type='kvm'><name>{name}</name><memory unit='MiB'>160</memory><vcpu>1</vcpu>
<memoryBacking><source type='file'/><access mode='shared'/></memoryBacking>
<os><type arch='x86_64' machine='q35'>hvm</type><kernel>/kernel/guest-kernel</kernel>
<initrd>/kernel/guest-initrd</initrd><cmdline>console=ttyS0 quiet mitigations=off tsc=reliable
no_timer_check guest={name}</cmdline></os><features><acpi/></features>
<cpu mode='host-passthrough'/><clock offset='utc'/><on_reboot>destroy</on_reboot>
<devices><emulator>/usr/bin/qemu-system-x86_64</emulator>
<disk type='file' device='disk'><driver name='qemu' type='raw'/><source file='/kernel/{name}.img'/>
<target dev='vda' bus='virtio'/></disk>
<interface type='bridge'><source bridge='bench0'/><model type='virtio'/><rom enabled='no'/>
</interface><serial type='dev'><source path='{serial}'/><target port='0'/></serial>
<memballoon model='none'/></devices></domain>"""
MONITOR = (
    "<qemu:commandline><qemu:arg value='-chardev'/><qemu:arg value='pipe,id=harness,path={path}'/>"
    "<qemu:arg value='-mon'/><qemu:arg value='chardev=harness,mode=control'/></qemu:commandline>"
    "</domain>"
)
NAMESPACE = "<domain xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0' "


def at(what: str) -> None:
    with open("/dev/ttyS0", "w") as console:
        console.write(f"AT {what}\r\n")


def run(*words: str) -> None:
    subprocess.run(words, check=True)


def setup() -> None:
    RAM.mkdir(parents=True, exist_ok=True)
    run("modprobe", "-a", "nd_e820", "nd_pmem", "kvm_amd", "bridge")
    run("udevadm", "settle")
    run("mkfs.ext4", "-q", "-F", "-m", "0", "/dev/pmem0")
    run("mount", "-o", "dax,noatime", "/dev/pmem0", str(RAM))
    run("ip", "link", "add", "bench0", "type", "bridge")
    run("ip", "link", "set", "bench0", "up")
    run("systemctl", "start", "libvirtd")
    host = libvirt.open("qemu:///system")
    for name, serial in SERIAL.items():
        with open(f"/kernel/{name}.img", "w") as disk:
            disk.truncate(64 << 20)
        host.createXML(DOMAIN.format(name=name, serial=serial))


def load(release: str, initrd: str, more: str = "") -> None:
    """Load the kernel, and write libvirt's cache of capabilities as it is to be under that."""
    image = Path(f"/boot/vmlinuz-{release}")
    start = image.read_bytes()[: 1 << 16]
    told = start[int.from_bytes(start[0x20E:0x210], "little") + 0x200 :].split(b"\0", 1)[0].decode()
    version = f"{told.split()[0]} {told[told.index('#') :]}"
    PREPARED.mkdir(exist_ok=True)
    for entry in CACHE.glob("*.xml"):
        new = f"<kernelVersion>{version}</kernelVersion>"
        text = re.sub("<kernelVersion>.*</kernelVersion>", new, entry.read_text())
        (PREPARED / entry.name).write_text(text)
    Path("/kernel/pace").write_text(json.dumps(tsc.pair(time.CLOCK_MONOTONIC_RAW)))
    line = f"{LINE} init=/kernel/thaw.py {more}".encode() + b"\0"
    with image.open("rb") as kernel, open(initrd, "rb") as disk:
        libc = ctypes.CDLL(None, use_errno=True)
        size = ctypes.c_ulong(len(line))
        if libc.syscall(_FILE_LOAD, kernel.fileno(), disk.fileno(), size, line, ctypes.c_ulong(0)):
            raise OSError(ctypes.get_errno(), "kexec_file_load")


def capability(domain: libvirt.virDomain, on: bool) -> None:
    wanted = {"capabilities": [{"capability": "x-ignore-shared", "state": on}]}
    command = {"execute": "migrate-set-capabilities", "arguments": wanted}
    libvirt_qemu.qemuMonitorCommand(domain, json.dumps(command), 0)


def park(name: str) -> None:
    domain = libvirt.open("qemu:///system").lookupByName(name)
    domain.suspend()
    keep = KEEP / name
    keep.mkdir(parents=True, exist_ok=True)
    capability(domain, on=True)
    live = RAM / f"{domain.ID()}-{name}"
    owner = live.stat()
    os.link(live / "pc.ram", keep / "pc.ram")
    description = re.sub(
        "<qemu:commandline>.*</domain>", "</domain>", domain.XMLDesc(9), flags=re.S
    )
    description = re.sub(" xmlns:qemu='[^']*'", "", description).replace("<domain ", NAMESPACE, 1)
    path = f"/run/kernel/{name}"
    successor = description.replace("</domain>", MONITOR.format(path=path))
    domain.saveFlags(str(keep / "state"), successor, libvirt.VIR_DOMAIN_SAVE_PAUSED)
    for number in range(1, 17):
        offer = RAM / f"{number}-{name}"
        offer.mkdir(mode=0o700, exist_ok=True)
        os.chown(offer, owner.st_uid, owner.st_gid)
        if not (offer / "pc.ram").exists():
            os.link(keep / "pc.ram", offer / "pc.ram")


def go() -> None:
    if Path("/sys/kernel/kexec_loaded").read_text().strip() != "1":
        raise SystemExit("no kernel is loaded: nobody is paused")
    os.sync()
    at(f"time {time.time():.4f}")
    at("pause")
    with ThreadPoolExecutor() as pool:
        list(pool.map(park, SERIAL))
    at("saved")
    run("umount", str(RAM))
    os.sync()
    counter, now_ns, _ = tsc.pair(time.CLOCK_MONOTONIC_RAW)
    before = json.loads(Path("/kernel/pace").read_text())
    pace = (counter - before[0]) / (now_ns - before[1])
    with open(RAM.parent / "clock", "w") as file:
        json.dump([*tsc.pair(), pace], file)
        file.flush()
        os.fsync(file.fileno())
    Path("/proc/sysrq-trigger").write_text("u")
    at("kexec")
    magic = [ctypes.c_long(one) for one in (0xFEE1DEAD, 672274793, 0x45584543, 0)]
    ctypes.CDLL(None).syscall(_REBOOT, *magic)


def settle() -> None:
    """systemd's libvirtd takes the guests over; they are like any other afterwards."""
    run("systemctl", "start", "libvirtd")
    host = libvirt.open("qemu:///system")
    for name in SERIAL:
        domain = host.lookupByName(name)
        capability(domain, on=False)
        for folder in [*RAM.glob(f"[0-9]*-{name}"), KEEP / name]:
            if folder.name != f"{domain.ID()}-{name}":
                run("rm", "-r", str(folder))
        print(name, domain.state()[0], os.uname().release)


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
