"""What a lab is made of, before it is made."""

from __future__ import annotations

import secrets
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field

from harness.core.errors import UsageError

#: Enough to boot and to hold an SSH session, by image.
DEFAULT_MEMORY_MIB = {"tiny": 128, "debian": 512}
CLOUD_MEMORY_MIB = 1024
MOST_GUESTS = 32


def _new_mac() -> str:
    """A locally administered address under QEMU's prefix."""
    return "52:54:00:" + ":".join(f"{byte:02x}" for byte in secrets.token_bytes(3))


@dataclass(frozen=True)
class GuestSpec:
    """One guest of a lab to be; ``name`` is data and may hold anything libvirt takes."""

    name: str
    image: str
    update_domain: str = "0"
    availability_set: str | None = "lab"
    memory_mib: int | None = None
    rtc_track: str = "wall"
    resident: bool = False
    """Whether its RAM is a file in memory, which outlives its QEMU process."""
    uuid: str = field(default_factory=lambda: str(uuid.uuid4()))
    mac: str = field(default_factory=_new_mac)

    @property
    def memory(self) -> int:
        """Memory in MiB."""
        return self.memory_mib or DEFAULT_MEMORY_MIB.get(self.image, CLOUD_MEMORY_MIB)


def default_specs(
    count: int, image: str, update_domains: int = 2, *, resident: bool = False
) -> Sequence[GuestSpec]:
    """``lab-1`` … ``lab-n``, spread over update domains ``0`` … in turn. Raises UsageError."""
    if not 1 <= count <= MOST_GUESTS:
        raise UsageError(f"{count} guests; a lab has 1 to {MOST_GUESTS}")
    return [
        GuestSpec(
            f"lab-{number + 1}",
            image,
            update_domain=str(number % update_domains),
            resident=resident,
        )
        for number in range(count)
    ]
