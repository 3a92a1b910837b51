"""RAM that was kept for a guest whose QEMU was to be replaced, and that is no longer needed."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from harness.core.pasteable import command
from harness.host.ram_folder import backing_folder
from harness.host.ram_links import KEEP, forgotten


def kept_ram(besides: Collection[str], folder: Path | None = None) -> tuple[str, ...]:
    """Say what is kept on this host, in words; it is memory that no other program can use.

    ``besides`` are guests (UUIDs) that are known to need it: they are parked. ``folder`` is
    libvirt's memory backing folder, by default as it is configured.
    """
    folder = backing_folder() if folder is None else folder
    return tuple(
        f"{size / 2**20:.0f} MiB of RAM are kept for guest {uuid}, and no dead run needs them "
        "(hint: if no maintenance is under way, and the guest runs or has ended: "
        f"{command('rm', '-r', str(folder / KEEP / uuid))})"
        for uuid, size in forgotten(folder)
        if uuid not in besides
    )
