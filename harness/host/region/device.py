"""The region as a block device and a mount: found by where it is in memory, never by its number.

A real NVDIMM is called ``/dev/pmemN``, too.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from harness.host.mounts import DAX, file_system
from harness.host.region.place import Region

NVDIMM = Path("/sys/bus/nd/devices")  # codespell:ignore nd
_DEV = Path("/dev")


def block_device(region: Region, root: Path = NVDIMM) -> Path | None:
    """Return ``/dev/pmemN`` of exactly this range of addresses; None if there is none (yet)."""
    for namespace in sorted(root.glob("namespace*")):
        with suppress(OSError, ValueError):
            start = int((namespace / "resource").read_text(), 0)
            size = int((namespace / "size").read_text())
            if (start, size) == (region.start, region.size):
                for disk in sorted((namespace / "block").iterdir()):
                    return _DEV / disk.name
    return None


def is_mounted(region: Region, folder: Path, root: Path = NVDIMM) -> bool:
    """Return True if ``folder`` is the region's file system, mounted with DAX."""
    device = block_device(region, root)
    with suppress(OSError):
        return (
            device is not None
            and folder.is_mount()
            and file_system(folder) == DAX
            and folder.stat().st_dev == device.stat().st_rdev
        )
    return False
