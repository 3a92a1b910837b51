"""An emulated host whose kernels hand memory over: those of ``vm-images/luo``, in the box."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

from benchmarks.kernel.__main__ import initrd, skeleton
from harness.host.kernel.kexec import KernelImage
from harness.lab.images import Image
from tests.live_kernel.enrolled import Enrolled
from tests.live_kernel.machine import Machine

KERNELS = "luo"
SWITCHES = "kho=on liveupdate=on"
#: An initrd without modules; also for a kernel that is told no init.
INIT = """#!/bin/sh
/bin/busybox --install -s /bin; export PATH=/bin
mount -t proc proc /proc; mount -t sysfs sysfs /sys; mount -t devtmpfs devtmpfs /dev
until [ -b /dev/vda ]; do sleep 0.02; done
mount -t ext4 /dev/vda /root
for each in proc sys dev; do mount --move /$each /root/$each; done
init=$(sed -n 's/.* init=\\([^ ]*\\).*/\\1/p' /root/proc/cmdline)
exec switch_root /root "${init:-/sbin/init}"
"""


@dataclass(frozen=True)
class Preserving(Enrolled):
    """Its two kernels are the same but for their release; both have files where Debian has them."""

    @property
    def kernels(self) -> dict[str, tuple[str, str]]:
        """Kernel and initrd, by release."""
        return {
            one: (f"/boot/vmlinuz-{one}", f"/boot/initrd.img-{one}") for one in (self.old, self.new)
        }

    def expect_timers(self) -> None:
        """KVM has the counter's own rate for guests; else their timers end late, or never."""
        said = self.host.sh("dmesg")
        assert "user requested TSC rate below hardware speed" not in said


def install(host: Machine, folder: Path, built: Image) -> tuple[str, str]:
    """Have both kernels be in the host as a package would have them; their releases."""
    assert built.kernel is not None
    assert host.image.initrd is not None
    unpacked, root = folder / "unpacked", folder / "root"
    unpacked.mkdir()
    archive = subprocess.run(["zcat", host.image.initrd], check=True, stdout=subprocess.PIPE).stdout
    words = ["cpio", "--extract", "--make-directories", "--quiet"]
    subprocess.run(words, cwd=unpacked, input=archive, check=True)
    early = skeleton(folder / "early", unpacked / "bin/busybox", INIT)
    initrd(early, folder / "initrd")
    found = []
    for kernel in (built.kernel, built.kernel.with_name("kernel-2")):
        release = KernelImage.read(kernel).release
        home = root / "usr/lib/modules" / release
        home.mkdir(parents=True)
        (root / "boot").mkdir(exist_ok=True)
        for source, target in (
            (kernel, root / f"boot/vmlinuz-{release}"),
            (folder / "initrd", root / f"boot/initrd.img-{release}"),
            (kernel.with_name("config"), root / f"boot/config-{release}"),
            (kernel.with_name("modules.builtin"), home / "modules.builtin"),
        ):
            subprocess.run(["cp", source, target], check=True)
        found.append(release)
    words = ["tar", "-C", str(root), "-cf", "-", "."]
    packed = subprocess.run(words, check=True, capture_output=True).stdout
    host.sh("tar -C / --keep-directory-symlink --no-overwrite-dir -xf -", packed)
    return found[0], found[1]
