"""A watchdog for an emulated host: that of its chipset, which its firmware describes to the kernel.

Debian's kernels for clouds have one driver of hardware, ``wdat_wdt``, which does what ACPI's table
WDAT says. QEMU has none, so it is given one: the registers are those of the q35's TCO (Intel ICH9
data sheet); the table's form is Microsoft's "Hardware Watchdog Timers Design Specification".
"""

from __future__ import annotations

import struct
from pathlib import Path

#: It counts in 0.6 s, and resets the machine when it has counted down twice.
_PERIOD_MS = 1200
_MOST, _LEAST = 0x3FF, 4
#: Where SeaBIOS puts the chipset's power management, and what belongs to its root complex.
_TCO, _CONFIGURATION = 0x660, 0xFED1F410
_MEMORY, _IO = 0, 1
_READ, _WRITE, _WRITE_COUNT, _KEEPING = 0, 2, 3, 0x80
_FOREIGN = 0xFF


def words(folder: Path) -> tuple[str, ...]:
    """What QEMU is given; the table is written into the folder."""
    file = folder / "wdat.table"
    file.write_bytes(_table())
    return ("-global", "ICH9-LPC.noreboot=false", "-acpitable", f"file={file}")


def _table() -> bytes:
    halted = {"space": _IO, "at": _TCO + 8, "bit": 11}
    rebooted = {"space": _IO, "at": _TCO + 6, "bit": 1}
    entries = [
        _entry(1, _WRITE, space=_IO, at=_TCO, value=1, mask=0xFFFF),  # a sign of life
        _entry(6, _WRITE_COUNT | _KEEPING, space=_IO, at=_TCO + 0x12, mask=_MOST),
        _entry(9, _WRITE | _KEEPING, value=0, **halted),  # it runs
        _entry(10, _READ, value=1, **halted),  # does it not?
        _entry(11, _WRITE | _KEEPING, value=1, **halted),  # it is stopped
        _entry(17, _WRITE | _KEEPING, space=_MEMORY, at=_CONFIGURATION, bit=5, size=32),
        _entry(32, _READ, value=1, **rebooted),  # has it done so?
        _entry(33, _WRITE, value=1, **rebooted),
    ]
    here = struct.pack("<IHBBB3xIIIB3xI", 0x20, _FOREIGN, *(_FOREIGN,) * 3, _PERIOD_MS, _MOST,
                       _LEAST, 1, len(entries))  # fmt: skip
    body = here + b"".join(entries)
    # QEMU sums it up itself.
    head = struct.pack("<4sIBB6s8sI4sI", b"WDAT", 36 + len(body), 1, 0, b"TESTED", b"HARNESS ", 1,
                       b"TEST", 1)  # fmt: skip
    return head + body


def _entry(
    action: int,
    instruction: int,
    *,
    space: int,
    at: int,
    bit: int = 0,
    size: int = 16,
    value: int = 0,
    mask: int = 1,
) -> bytes:
    access = {16: 2, 32: 3}[size]
    return struct.pack(
        "<BBHBBBBQII", action, instruction, 0, space, size, bit, access, at, value, mask
    )
