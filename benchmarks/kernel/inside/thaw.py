#!/opt/harness/.venv/bin/python -I
"""`init=` of the new kernel: guests go on, by a libvirtd for that time; then systemd starts.

Process 1, on the real root, as the initrd leaves it. Whatever fails, the boot goes on.
"""

import ctypes
import fcntl
import grp
import json
import os
import signal
import stat
import struct
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, os.path.dirname(__file__))
import tsc

RAM = Path("/var/lib/libvirt/qemu/ram")
CACHE = Path("/var/cache/libvirt/qemu/capabilities")
PREPARED = Path("/kernel/capabilities")
OURS = Path("/run/kernel")
SOCKET = Path("/run/libvirt/libvirt-sock")
CONF = Path("/etc/libvirt/qemu.conf")
GROUPS = Path("/sys/fs/cgroup")
#: In the kernel's command line: QEMUs are not told anything, and refuse.
BROKEN = "bench.broken"
MODULES = ("nd_e820", "nd_pmem", "kvm_amd", "bridge", "tun")
TOLD = """{"execute": "qmp_capabilities"}
{"execute": "migrate-set-capabilities", "arguments": {"capabilities": [
{"capability": "x-ignore-shared", "state": true}]}}
"""
_BIND = 4096
_SUPPORTED_CPUID, _ENTRIES = 0xC008AE05, 256
_LIBC = ctypes.CDLL(None, use_errno=True)


def at(what: str) -> None:
    with open("/dev/ttyS0", "w") as console:
        console.write(f"AT {what}\r\n")


def mount(what: str, where: Path, kind: str = "", options: str = "", flags: int = 0) -> None:
    if flags == 0 and where.is_mount():
        return  # the initrd has been here
    words = [one.encode() for one in (what, str(where), kind)]
    if _LIBC.mount(*words, ctypes.c_ulong(flags), options.encode()):
        raise OSError(ctypes.get_errno(), f"mounting {where}")


def wait_for(ready: object) -> None:
    while not ready():
        time.sleep(0.01)


def prepare() -> None:
    mount("proc", Path("/proc"), "proc")
    mount("sysfs", Path("/sys"), "sysfs")
    mount("devtmpfs", Path("/dev"), "devtmpfs")
    mount("tmpfs", Path("/run"), "tmpfs", "mode=0755")
    at("init")
    subprocess.run(["modprobe", "-a", *MODULES], check=False)
    OURS.mkdir(mode=0o711)
    OURS.chmod(0o711)
    Path("/dev/pts").mkdir(exist_ok=True)
    mount("devpts", Path("/dev/pts"), "devpts")
    pmem = Path("/dev/pmem0")
    wait_for(lambda: pmem.exists() and stat.S_ISBLK(pmem.stat().st_mode))
    mount("/dev/pmem0", RAM, "ext4", "dax")
    at("region")


def set_clock() -> None:
    """The RTC has whole seconds only, and guests' clocks are going to be set by the host's."""
    then, now_ns, width, pace = json.loads((RAM.parent / "clock").read_text())
    counter, wrong_ns, wider = tsc.pair()
    right_ns = tsc.realtime_ns((then, now_ns), pace, counter)
    now = right_ns + round((tsc.rdtsc() - counter) / pace)
    time.clock_settime_ns(time.CLOCK_REALTIME, now)
    known_ms = (width + wider) / pace / 1e6
    at(f"clock set by {(right_ns - wrong_ns) / 1e6:+.1f} ms, known to {known_ms:.1f} ms")
    at(f"time {time.time():.4f}")


def known_kernel() -> None:
    """libvirt's cache, true for this kernel; no udev has given /dev/kvm its group."""
    os.chown("/dev/kvm", 0, grp.getgrnam("kvm").gr_gid)
    os.chmod("/dev/kvm", 0o660)
    ours = OURS / "capabilities"
    ours.mkdir()
    for entry in PREPARED.glob("*.xml"):
        before, found, rest = entry.read_text().partition("    <cpuid ")
        after = rest[rest.index("  </cpudata>") :] if found else ""
        (ours / entry.name).write_text(before + (cpuid() if found else "") + after)
    mount(str(ours), CACHE, flags=_BIND)
    lines = [one for one in CONF.read_text().splitlines() if "stdio_handler" not in one]
    (OURS / "qemu.conf").write_text("\n".join([*lines, 'stdio_handler = "file"\n']))
    mount(str(OURS / "qemu.conf"), CONF, flags=_BIND)


def cpuid() -> str:
    """What KVM offers on this kernel, as libvirt writes it."""
    answer = bytearray(struct.pack("II", _ENTRIES, 0) + bytes(40 * _ENTRIES))
    with open("/dev/kvm", "rb") as kvm:
        fcntl.ioctl(kvm, _SUPPORTED_CPUID, answer)
    (count,) = struct.unpack_from("I", answer)
    lines = []
    for number in sorted(struct.unpack_from("10I", answer, 8 + 40 * one) for one in range(count)):
        leaf, index, _, a, b, c, d, *_ = number
        b = b & 0xFFFFFF if leaf == 1 else b  # the CPU that asks is in these two
        d = d & 0xFFFFFF00 if leaf == 0xB else d
        values = {"eax_in": leaf, "ecx_in": index, "eax": a, "ebx": b, "ecx": c, "edx": d}
        if a or b or c or d:
            told = " ".join(f"{name}='0x{value:08x}'" for name, value in values.items())
            lines.append(f"    <cpuid {told}/>\n")
    return "".join(lines)


def parked() -> list[str]:
    return sorted(one.name for one in (RAM / "keep").iterdir())


def lay_ready(names: list[str]) -> None:
    """What the next QEMUs are told, and their RAM: libvirt removes that of a start that failed."""
    for name in names:
        kept = RAM / "keep" / name / "pc.ram"
        owner = kept.stat()
        for end, text in ((".in", TOLD), (".out", "")):
            (OURS / f"{name}{end}").write_text(text)
            os.chown(OURS / f"{name}{end}", owner.st_uid, owner.st_gid)
        for number in range(1, 17):
            offer = RAM / f"{number}-{name}"
            offer.mkdir(mode=0o700, exist_ok=True)
            os.chown(offer, owner.st_uid, owner.st_gid)
            if not (offer / "pc.ram").exists():
                os.link(kept, offer / "pc.ram")


def restore(names: list[str]) -> None:
    import libvirt

    host = libvirt.open("qemu:///system")
    for name in names:
        host.restoreFlags(str(RAM / "keep" / name / "state"), None, libvirt.VIR_DOMAIN_SAVE_PAUSED)
        host.lookupByName(name).resume()
        at(f"{name} runs")
    host.close()


def late() -> None:
    """What a unit does where `init=` did not get through: the same, by the libvirtd of systemd."""
    at("late")
    subprocess.run(["modprobe", "-a", *MODULES], check=True)
    OURS.mkdir(mode=0o711, exist_ok=True)
    OURS.chmod(0o711)
    wait_for(Path("/dev/pmem0").exists)
    mount("/dev/pmem0", RAM, "ext4", "dax")
    make_bridge()
    lay_ready(parked())
    subprocess.run(["systemctl", "start", "libvirtd"], check=True)
    at("libvirtd")
    restore(parked())
    at("systemd")


def make_bridge() -> None:
    subprocess.run(["ip", "link", "add", "bench0", "type", "bridge"], check=False)
    subprocess.run(["ip", "link", "set", "bench0", "up"], check=False)


def thaw() -> None:
    names = parked()
    with open(OURS / "libvirtd.log", "w") as log:
        daemon = subprocess.Popen(["libvirtd"], stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        if BROKEN not in Path("/proc/cmdline").read_text():
            lay_ready(names)
        make_bridge()
        wait_for(SOCKET.exists)
        at("libvirtd")
        restore(names)
        of_their_own(names)
    finally:
        daemon.send_signal(signal.SIGTERM)
        daemon.wait()
        for bound in (CACHE, CONF):
            _LIBC.umount2(str(bound).encode(), 0)
    at("systemd")


def of_their_own(names: list[str]) -> None:
    """A cgroup for each QEMU, or systemd takes them for its own."""
    mount("cgroup2", GROUPS, "cgroup2")
    for name in names:
        group = GROUPS / "machine.slice" / f"bench-{name}.scope"
        group.mkdir(parents=True)
        pid = Path(f"/run/libvirt/qemu/{name}.pid").read_text()
        (group / "cgroup.procs").write_text(pid)


if __name__ == "__main__":
    os.environ["PATH"] = "/usr/sbin:/usr/bin:/sbin:/bin"
    if sys.argv[1:] == ["late"]:
        late()
        sys.exit()
    try:
        prepare()
        set_clock()
        known_kernel()
        thaw()
    except Exception as error:  # noqa: BLE001 - the machine has to come up
        at(f"failed: {error!r}")
    sys.stdout.flush()
    os.execv("/sbin/init", ["/sbin/init"])
