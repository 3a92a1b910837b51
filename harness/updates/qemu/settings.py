"""What can be set of kinds ``qemu`` and ``adopt``; they are loaded where they are asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from harness.updates.protocol import UpdateSettings


class QemuSettings(UpdateSettings):
    """``[update]`` of kind ``qemu``."""

    learns: ClassVar[bool] = False

    kind: Literal["qemu"] = "qemu"
    emulator: Path | None = None
    """The QEMU to go on in; None: what each guest's own description names."""
    tree: Path | None = None
    """A folder of unpacked packages to take that QEMU from instead."""
    previous: Path | None = None
    """A folder of unpacked packages with the QEMU that guests run in now, for the way back."""
    again: bool = False
    """Also guests that run in that very QEMU already, for a rehearsal."""


class AdoptSettings(UpdateSettings):
    """``[update]`` of kind ``adopt``."""

    learns: ClassVar[bool] = False

    kind: Literal["adopt"] = "adopt"
    rate_mib_s: Annotated[float, Field(gt=0, le=1e6, allow_inf_nan=False)] | None = None
    """How fast RAM is copied; None: measured when it is planned."""
    definition: bool = True
    """Also change the guest's definition, so that it stays eligible after its next boot."""
    previous: Path | None = None
    """A folder of unpacked packages with the QEMU that guests run in, where apt has replaced it."""
