"""A bare kexec of this host, with no guests, that came back, and the hardware it is true of.

Some drivers and firmwares do not survive that a kernel is started by another kernel. So it is tried
once, and again after each change of hardware or firmware, before a guest depends on it. What was
begun is written down before the kernel is left, and becomes a record when the next one has come up,
which it knows by a word of its own in its command line.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from harness.core.errors import InfrastructureError
from harness.core.files import public_folder, write_atomically
from harness.host.region.place import words

RECORD = Path("/var/lib/harness/kexec-rehearsal.json")
BEGUN = Path("/var/lib/harness/kexec-rehearsal-begun.json")
#: ``harness.rehearsal=4f2a…`` in the command line of the kernel that is started.
WORD = "harness.rehearsal"
DMI = Path("/sys/class/dmi/id")
PCI = Path("/sys/bus/pci/devices")
#: What a change of firmware or mainboard changes. No serial numbers: a record is for all to read.
_DMI = (
    *("bios_vendor", "bios_version", "bios_release", "bios_date", "ec_firmware_release"),
    *("sys_vendor", "product_name", "product_version", "board_vendor", "board_name"),
    *("board_version",),
)

#: Name of a part (``bios_version``, ``0000:00:02.0``) → what it is.
Hardware = Mapping[str, str]


@dataclass(frozen=True)
class Rehearsal:
    """A kexec that came back."""

    at: str
    """When, as UTC; ISO 8601."""
    release: str
    """The kernel that was started, as ``uname -r`` has it."""
    hardware: dict[str, str]
    word: str = ""
    """What its command line had, to be told from any other boot."""


def hardware(dmi: Path = DMI, pci: Path = PCI) -> dict[str, str]:
    """Return what tells this hardware and its firmware from others: DMI, and devices on PCI.

    Virtual functions, which come and go, are left out.
    """
    found = {}
    for name in _DMI:
        with suppress(OSError):
            found[name] = (dmi / name).read_text(errors="replace").strip()
    for device in sorted(pci.iterdir()) if pci.is_dir() else ():
        if not (device / "physfn").exists():
            with suppress(OSError):
                parts = [(device / part).read_text().strip() for part in ("vendor", "device")]
                found[device.name] = ":".join(part.removeprefix("0x") for part in parts)
    return found


def changes(before: Hardware, now: Hardware) -> Iterator[str]:
    """Say what is different, a part each: ``bios_version was 1.2, is 1.3``."""
    for name in sorted({*before, *now}):
        was, is_now = before.get(name, "not there"), now.get(name, "not there")
        if was != is_now:
            yield f"{name} was {was}, is {is_now}"


def rehearsal(record: Path = RECORD) -> Rehearsal | None:
    """Return the rehearsal that a file tells of; None if there is none that can be read.

    Raises InfrastructureError where the file may not be read.
    """
    try:
        told: Any = json.loads(record.read_text())
        parts = {str(name): str(value) for name, value in told["hardware"].items()}
        return Rehearsal(str(told["at"]), str(told["release"]), parts, str(told["word"]))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise InfrastructureError(f"{record}: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def write(found: Rehearsal, record: Path = RECORD) -> None:
    """Keep a rehearsal, for all to read; on the disk on return. Raises InfrastructureError."""
    public_folder(record.parent)
    write_atomically(record, json.dumps(asdict(found), indent=1) + "\n", mode=0o644)


def conclude(command_line: str, *, begun: Path = BEGUN, record: Path = RECORD) -> Rehearsal | None:
    """Make a record of what was begun, if this kernel was started by it; return that.

    One that is of another boot (the kernel did not come up, and the machine was reset) stays as it
    is, for `harness doctor` to tell. Raises InfrastructureError.
    """
    found = rehearsal(begun)
    if found is None or found.word not in words(command_line):
        return None
    write(found, record)
    begun.unlink(missing_ok=True)
    return found
