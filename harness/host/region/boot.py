"""What ``harness-region.service`` runs at each boot: the region's file system, ready to mount.

It is made again at each boot, for libvirt would give a new guest the RAM file of an old one of the
same name, and what is reported of guests after a reboot (their RAM is gone) has to be true. Only
where a handover is pending nothing is touched: guests wait in there. Where the memory was lost, by
a cold boot, not even the file system is there, and nothing waits.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from harness.core.errors import HarnessError, InfrastructureError
from harness.core.files import public_folder
from harness.core.process_state import settle_process
from harness.core.timebase import Deadline, NotYet, wait_for
from harness.host.region.device import NVDIMM, block_device, is_mounted
from harness.host.region.handover import HANDOVER, is_pending
from harness.host.region.place import Region, is_set_aside
from harness.host.region.rehearsal import conclude
from harness.host.setup_steps import run

#: What the mount unit mounts.
LINK = Path("/run/harness/region")
MODULES = ("nd_e820", "nd_pmem")
IOMEM = Path("/proc/iomem")
COMMAND_LINE = Path("/proc/cmdline")
_PATIENCE_S = 60.0
#: Of an ext4: in its superblock, which begins at 1024.
_MAGIC, _MAGIC_AT = b"\x53\xef", 1024 + 0x38
#: Blocks of a page: DAX maps no others.
_MAKE = ("mkfs.ext4", "-q", "-F", "-b", "4096", "-m", "0", "-E", "nodiscard")


def make_ready(
    region: Region,
    folder: Path,
    *,
    link: Path = LINK,
    handover: Path = HANDOVER,
    nvdimm: Path = NVDIMM,
    patience_s: float = _PATIENCE_S,
) -> str:
    """Have ``link`` lead to the region's device, with a file system on it; say what was done.

    Raises InfrastructureError or DeadlineExpired.
    """
    if not is_set_aside(region, IOMEM.read_text()):
        raise InfrastructureError(
            f"this kernel has not set aside {region}", hint=f"boot it with {region.argument}"
        )
    run(("modprobe", "--all", *MODULES))

    def look() -> Path:
        device = block_device(region, nvdimm)
        if device is None or not device.exists():
            raise NotYet(f"no device of {region}")
        return device

    deadline = Deadline.after(patience_s)
    device = wait_for(look, what="waiting for the region", deadline=deadline)
    lead(link, device)
    if is_mounted(region, folder, nvdimm):
        return f"{device} is on {folder} already: nothing is touched"
    pending = is_pending(handover)
    if pending and may_hold_guests(device):
        return f"{device}: a handover is pending ({handover}): nothing is touched"
    run((*_MAKE, str(device)))
    lost = f"; a handover is pending ({handover}), and its memory was lost" if pending else ""
    return f"{device}: a new file system for {region}{lost}"


def may_hold_guests(device: Path) -> bool:
    """Return True unless it is certain that there is no file system on the device.

    libvirtd does not start without one, and what was lost would never be reported.
    """
    try:
        with device.open("rb") as file:
            file.seek(_MAGIC_AT)
            return file.read(len(_MAGIC)) == _MAGIC
    except OSError:
        return True


def lead(link: Path, device: Path) -> None:
    """Have a symbolic link lead to the device, whatever was there. Raises OSError."""
    public_folder(link.parent)
    new = link.with_name(f".{link.name}.new")
    new.unlink(missing_ok=True)
    new.symlink_to(device)
    new.replace(link)


def main(arguments: Sequence[str]) -> int:
    """``START SIZE FOLDER``, numbers as Python writes them."""
    settle_process()
    start, size, folder = arguments
    try:
        said = make_ready(Region(int(start, 0), int(size, 0)), Path(folder))
        sys.stdout.write(f"{said}\n")
        rehearsed = conclude(COMMAND_LINE.read_text())
        if rehearsed is not None:
            sys.stdout.write(f"the kexec that was rehearsed {rehearsed.at} has come up\n")
    except (HarnessError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
