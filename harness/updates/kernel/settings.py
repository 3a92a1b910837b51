"""What can be set of kind ``kernel``; the kind itself is loaded where it is asked for."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal

from harness.updates.protocol import UpdateSettings


class KernelSettings(UpdateSettings):
    """``[update]`` of kind ``kernel``."""

    learns: ClassVar[bool] = False

    kind: Literal["kernel"] = "kernel"
    kernel: Path
    """The kernel to go on in, such as ``/boot/vmlinuz-6.12.95``."""
    initrd: Path | None = None
    """Its initrd; None: ``/boot/initrd.img-RELEASE``."""
    cmdline: str | None = None
    """Its command line; None: today's."""
    resident: Literal["dax", "luo"] = "dax"
    """Where guests' RAM is meanwhile: on a region of memory that was set aside for it (``dax``), or
    handed over by the kernels themselves (``luo``: where there is a ``/dev/liveupdate``)."""
