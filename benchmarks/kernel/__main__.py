"""The host's kernel replaced under two paused KVM guests, and back: what each part costs.

    make bench-kernel           # a quarter of an hour on 2 cores
    python -P -m benchmarks.kernel late     # on the way back `init=` fails: a late thaw
    python -P -m benchmarks.kernel floor    # the least that a kexec under two guests takes

Boots a lab box that sets 1 GiB aside (`memmap=`), has two guests whose RAM is there, and goes from
Debian 12's kernel to that of its backports and back by kexec. Guests are saved as kind `qemu` saves
them, and brought back by `init=` of the new kernel (docs/explanation/kernel.md). Says whether the
guests are the same as before, and what each part took, in seconds and in CPU seconds of the box's
QEMU: other work on this machine makes the former useless, and up to doubles the latter.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from itertools import pairwise
from pathlib import Path

from benchmarks.kernel.box import Box, Line
from harness.core.paths import cache_dir
from harness.lab.images import ensure

ROOT = Path(__file__).parents[2]
INSIDE = Path(__file__).parent / "inside"
GUESTS = ("g1", "g2")
#: What the new kernel needs before its root is there, and what it needs of it.
EARLY = ("virtio_pci", "virtio_blk", "ext4")
LATE = ("virtio_net", "virtio_rng", "nd_e820", "nd_pmem", "kvm_amd", "bridge", "tun", "vhost_net")
INIT = """#!/bin/sh
/bin/busybox --install -s /bin; export PATH=/bin
mount -t proc proc /proc; mount -t sysfs sysfs /sys; mount -t devtmpfs devtmpfs /dev
while read -r module; do insmod /modules/$module; done </modules/order
until [ -b /dev/vda ]; do sleep 0.02; done
mount -t ext4 /dev/vda /root
for each in proc sys dev; do mount --move /$each /root/$each; done
exec switch_root /root $(sed 's/.* init=\\([^ ]*\\).*/\\1/' /root/proc/cmdline)
"""


def script(name: str, *words: str) -> Path:
    done = subprocess.run([ROOT / "scripts" / name, *words], check=True, stdout=subprocess.PIPE)
    return Path(done.stdout.decode().split()[-1])


def modules(tree: Path, release: str, names: tuple[str, ...]) -> list[Path]:
    """The files of modules, those that they need first."""
    found: list[Path] = []
    for name in names:
        words = ["modprobe", "-d", tree, "-S", release, "--show-depends", name]
        said = subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True).stdout
        found += [Path(x) for x in re.findall(r"^insmod (\S+)", said, re.MULTILINE)]
    return list(dict.fromkeys(found))


def initrd(folder: Path, target: Path) -> None:
    names = "\0".join(str(path.relative_to(folder)) for path in sorted(folder.rglob("*")))
    words = ["cpio", "--null", "--create", "--format=newc", "--owner=0:0", "--quiet"]
    packed = subprocess.run(
        words, cwd=folder, input=names.encode(), check=True, capture_output=True
    )
    with target.open("wb") as file:
        subprocess.run(["gzip", "-1"], input=packed.stdout, check=True, stdout=file)


def skeleton(folder: Path, busybox: Path, init: str) -> Path:
    for name in ("bin", "dev", "modules", "proc", "root", "sys", "tmp"):
        (folder / name).mkdir(parents=True)
    subprocess.run(["cp", busybox, folder / "bin/busybox"], check=True)
    (folder / "bin/sh").symlink_to("busybox")
    (folder / "init").write_text(init)
    (folder / "init").chmod(0o755)
    return folder


def payload(work: Path, first_initrd: Path, tree: Path, release: str) -> Path:
    """What is brought into the box: guests' initrd, the new kernel, its modules and its initrd."""
    unpacked, root = work / "unpacked", work / "payload"
    unpacked.mkdir()
    archive = subprocess.run(["zcat", first_initrd], check=True, stdout=subprocess.PIPE).stdout
    words = ["cpio", "--extract", "--make-directories", "--quiet"]
    subprocess.run(words, cwd=unpacked, input=archive, check=True)
    busybox, kernel = unpacked / "bin/busybox", root / "kernel"
    subprocess.run(["mkdir", "-p", kernel, root / "boot"], check=True)
    subprocess.run(["depmod", "-b", tree, release], check=True)
    new = skeleton(work / "new", busybox, INIT)
    early = modules(tree, release, EARLY)
    subprocess.run(["cp", *early, new / "modules"], check=True)
    # As an initrd is compressed as a whole; busybox takes seconds for them there.
    subprocess.run(["xz", "--decompress", *(new / "modules").glob("*.xz")], check=True)
    (new / "modules/order").write_text(
        "".join(f"{one.stem.removesuffix('.ko')}.ko\n" for one in early)
    )
    initrd(new, kernel / "initrd")
    initrd(
        skeleton(work / "guest", busybox, (INSIDE / "guest-init").read_text()),
        kernel / "guest-initrd",
    )
    subprocess.run(["cp", *INSIDE.glob("*.py"), INSIDE / "floor-init", kernel], check=True)
    subprocess.run(["cp", tree / f"boot/vmlinuz-{release}", root / "boot"], check=True)
    for one in [*early, *modules(tree, release, LATE)]:
        target = root / "usr" / one.relative_to(tree)
        target.parent.mkdir(parents=True, exist_ok=True)
        subprocess.run(["cp", one, target], check=True)
    where = root / "usr/lib/modules" / release
    subprocess.run(["cp", *tree.glob(f"lib/modules/{release}/modules.[bo]*"), where], check=True)
    (root / "lib").symlink_to("usr/lib")
    subprocess.run(["depmod", "-b", root, release], check=True)
    (root / "lib").unlink()
    return root


def hop(box: Box, release: str, disk: str, *, broken: bool = False) -> list[Line]:
    """To another kernel; the lines that tell when what was done."""
    box.sh(f"/kernel/host.py load {release} {disk} {'bench.broken' * broken}")
    already = len(box.lines["host"])
    box.sh("setsid /kernel/host.py go >/kernel/go.log 2>&1 </dev/null & sleep 0.1")
    if broken:
        print(box.wait("host", "AT failed", already).text)
        box.sh("/kernel/thaw.py late")
    box.wait("host", "AT (systemd|failed)" if not broken else "AT systemd", already)
    return [line for line in box.lines["host"][already:] if "AT " in line.text]


def floor(box: Box, release: str) -> bool:
    """Two guests that nobody manages, to another kernel, by shell; whether they are the same."""
    box.sh("/kernel/floor.py setup")
    before = {guest: identity(box, guest) for guest in GUESTS}
    box.sh(f"/kernel/floor.py load {release} /kernel/initrd")
    already = len(box.lines["host"])
    seen = {guest: len(box.lines[guest]) for guest in GUESTS}
    box.sh("setsid /kernel/floor.py go >/kernel/go.log 2>&1 </dev/null & sleep 0.1")
    box.wait("host", "AT systemd", already)
    lines = [line for line in box.lines["host"][already:] if "AT " in line.text]
    table({f"the floor, to {release}": [lines[0], *lines]})
    return all(identity(box, one, seen[one] + 5) == before[one] for one in GUESTS)


def identity(box: Box, guest: str, after: int = 0) -> str:
    """Boot id, nonce and digest of a guest, which are told whole and right only now and then."""
    line = box.wait(guest, r"I boot=\w+ nonce=\w+ sum=(\w+) now=\1$", after)
    return line.text[line.text.index("I boot") :]


def behind_ms(line: Line) -> float:
    """How far the box's clock is behind this machine's; the way over the serial line is in it."""
    return (line.wall_s - float(line.text.partition("AT time ")[2])) * 1e3


def table(hops: dict[str, list[Line]]) -> None:
    for name, (before, *lines) in hops.items():
        print(f"\n{name}: freeze → both run, then systemd starts")
        for one, other in pairwise(lines):
            took = f"{other.at_s - one.at_s:7.2f} s {other.cpu_s - one.cpu_s:7.2f} CPU s"
            said = other.text.partition("AT ")[2]
            if said.startswith("time "):
                said = f"host's clock: {behind_ms(other) - behind_ms(before):+.1f} ms behind itself"
            print(f"  {took}  {said}")
        first, last = lines[0], lines[-1]
        whole = f"{last.at_s - first.at_s:7.2f} s {last.cpu_s - first.cpu_s:7.2f} CPU s"
        print(f"  {whole}  in all; load {os.getloadavg()[0]:.1f}")


def main() -> int:
    qemu = script("second-qemu")
    tree = script("backports", str(cache_dir() / "second-kernel"), "linux-image-cloud-amd64")
    (image,) = tree.glob("boot/vmlinuz-*")
    new = image.name.removeprefix("vmlinuz-")
    with tempfile.TemporaryDirectory(prefix="bench-kernel-", dir="/var/tmp") as name:
        first = ensure("labbox", print)
        assert first.initrd is not None
        root = payload(Path(name), first.initrd, tree, new)
        packed = subprocess.run(
            ["tar", "-C", root, "-cf", "-", "."], check=True, capture_output=True
        )
        with Box(Path(name), first, qemu) as box:
            old = box.sh("uname -r").strip()
            box.sh("tar -C / --keep-directory-symlink --no-overwrite-dir -xf -", packed.stdout)
            box.sh(f"cp /boot/vmlinuz-{old} /kernel/guest-kernel")
            print("waiting for the guests", flush=True)
            if sys.argv[1:] == ["floor"]:
                same = floor(box, new)
                print("the guests are the same" if same else "the guests are NOT the same")
                return 0 if same else 1
            box.sh("/kernel/host.py setup")
            before = {guest: identity(box, guest) for guest in GUESTS}
            hops, same = {}, True
            for release, disk in ((new, "/kernel/initrd"), (old, f"/boot/initrd.img-{old}")):
                print(f"to {release}", flush=True)
                seen = {guest: len(box.lines[guest]) for guest in GUESTS}
                broken = release == old and sys.argv[1:] == ["late"]
                hops[f"to {release}, {Path(disk).name}"] = hop(box, release, disk, broken=broken)
                print(box.sh("/kernel/host.py settle"), end="")
                same &= all(identity(box, one, seen[one] + 5) == before[one] for one in GUESTS)
            table(hops)
            print("the guests are the same" if same else "the guests are NOT the same", before)
    return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main())
