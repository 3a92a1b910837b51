"""What udev and systemd do for QEMU and libvirt, where neither has run yet.

For ``init=`` of a new kernel: process 1 on the real root, as the initrd leaves it.
"""

from __future__ import annotations

import ctypes
import grp
import os
import subprocess
from pathlib import Path

from harness.core.errors import InfrastructureError
from harness.core.files import public_folder

#: Where programs are looked for by who runs then.
PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
_BIND = 4096
#: Options that are flags of the call.
_FLAGS = {
    "nosuid": 1 << 1,
    "nodev": 1 << 2,
    "noexec": 1 << 3,
    "sync": 1 << 4,
    "remount": 1 << 5,
    "dirsync": 1 << 7,
    "noatime": 1 << 10,
    "nodiratime": 1 << 11,
    "relatime": 1 << 21,
    "strictatime": 1 << 24,
    "lazytime": 1 << 25,
}
_GROUPS = Path("/sys/fs/cgroup")
_SLICE = "machine.slice"
#: (what, where, type, options)
_MOUNTS = (
    ("proc", "/proc", "proc", ""),
    ("sysfs", "/sys", "sysfs", ""),
    ("devtmpfs", "/dev", "devtmpfs", ""),
    ("tmpfs", "/run", "tmpfs", "mode=0755"),
    ("devpts", "/dev/pts", "devpts", "gid=5,mode=620"),
    ("cgroup2", str(_GROUPS), "cgroup2", ""),
)
_KVM = Path("/dev/kvm")


def mount_the_usual() -> None:
    """Mount what every program expects, and what the initrd has not. Raises InfrastructureError."""
    for what, where, kind, options in _MOUNTS:
        place = Path(where)
        public_folder(place)
        if not place.is_mount():
            mount(what, place, kind, options)


def mount(what: str, where: Path, kind: str, options: str = "", flags: int = 0) -> None:
    """Mount a file system. Raises InfrastructureError."""
    libc = ctypes.CDLL(None, use_errno=True)
    words = [os.fsencode(one) for one in (what, where, kind)]
    said = [one for one in options.split(",") if one]
    flags |= sum(_FLAGS.get(one, 0) for one in said)
    own = ",".join(one for one in said if one not in _FLAGS)
    if libc.mount(*words, ctypes.c_ulong(flags), os.fsencode(own)):
        number = ctypes.get_errno()
        raise InfrastructureError(f"mounting {where}: {os.strerror(number)}")


def change(where: Path, options: str) -> None:
    """Mount it again with those of ``options`` that are flags. Raises InfrastructureError.

    What a file system has of its own stays as it is.
    """
    flags = [one for one in options.split(",") if one in _FLAGS]
    mount("none", where, "", ",".join(flags))


def cover(this: Path, by: Path) -> None:
    """Have ``by`` be seen in the place of ``this``, until :func:`uncover`."""
    mount(str(by), this, "", flags=_BIND)


def uncover(this: Path) -> None:
    """Take away what covers ``this``. Never raises."""
    ctypes.CDLL(None).umount2(os.fsencode(this), 0)


def give_kvm_its_group() -> None:
    """``/dev/kvm`` is root's alone until udev has run. Raises OSError."""
    if _KVM.exists():
        os.chown(_KVM, 0, grp.getgrnam("kvm").gr_gid)
        _KVM.chmod(0o660)


def make_bridge(name: str) -> None:
    """Make a bridge that the system's own configuration makes later. Raises InfrastructureError."""
    if Path("/sys/class/net", name).exists():
        return
    for words in (("ip", "link", "add", name, "type", "bridge"), ("ip", "link", "set", name, "up")):
        done = subprocess.run(words, capture_output=True, text=True)
        if done.returncode:
            raise InfrastructureError(f"{' '.join(words)}: {done.stderr.strip()}")


def give_a_group(uuid: str, pid: int) -> None:
    """Put a QEMU into a control group of its own, or systemd takes it for its own. Raises OSError.

    Below the slice that is for machines; a scope's name tells which.
    """
    group = _GROUPS / _SLICE / f"harness-{uuid}.scope"
    public_folder(group)
    (group / "cgroup.procs").write_text(str(pid))
