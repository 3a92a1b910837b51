"""Watchdogs in hardware: they reset this host, whatever its kernel does, unless told that it lives.

A kernel that is left tells them nothing, and they count on, unless their driver stops them for
that: the next one has to be in time.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path("/sys/class/watchdog")
MODULES = Path("/sys/module")
#: 1, 0, or -1: as the driver has it (linux: drivers/watchdog/watchdog_core.c). Kernels before 5.7
#: have no such word.
_STOP_ON_REBOOT = "watchdog/parameters/stop_on_reboot"
#: As softdog calls itself (linux: drivers/watchdog/softdog.c): it ends with its kernel.
_SOFTWARE = "Software Watchdog"


@dataclass(frozen=True)
class Watchdog:
    """One of them."""

    name: str
    """Such as ``watchdog0``."""
    identity: str
    """As its driver calls it."""
    module: str
    """Of its driver; empty: built in, or not told."""
    timeout_s: int
    """For how long it waits for the next sign of life."""
    armed: bool
    """A program has opened it, as systemd does with ``RuntimeWatchdogSec=``."""
    outlasts: bool | None
    """It goes on when its kernel is left; None: its driver decides, and many stop it."""

    def __str__(self) -> str:
        """``watchdog0 (iTCO_wdt)``."""
        return f"{self.name} ({self.identity})"


def look(folder: Path = FOLDER, modules: Path = MODULES) -> tuple[Watchdog, ...]:
    """Return those in hardware whose drivers tell of themselves, by name."""
    found = [_look(one, modules) for one in sorted(folder.glob("watchdog*"))]
    return tuple(one for one in found if one is not None and one.identity != _SOFTWARE)


def _look(place: Path, modules: Path) -> Watchdog | None:
    try:
        state, identity, timeout = (
            (place / name).read_text().strip() for name in ("state", "identity", "timeout")
        )
        return Watchdog(
            place.name,
            identity,
            _module(place, identity, modules),
            timeout_s=int(timeout),
            armed=state == "active",
            outlasts=_outlasts(modules),
        )
    except (OSError, ValueError):
        return None  # it is gone, or its driver tells nothing of it


def _module(place: Path, identity: str, modules: Path) -> str:
    """A driver that does not say whose device it is mostly calls itself as its module is called."""
    with suppress(OSError):
        return (place / "device/driver/module").resolve(strict=True).name
    return identity if (modules / identity).is_dir() else ""


def _outlasts(modules: Path) -> bool | None:
    try:
        return {"0": True, "1": False}.get((modules / _STOP_ON_REBOOT).read_text().strip())
    except OSError:
        return None
