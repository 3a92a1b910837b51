"""How a guest's time is kept by its virtual hardware, read from libvirt's XML; pure.

Linux counts time by a clocksource, so a pause costs its clock exactly the pause. Windows counts
ticks. Where the RTC gives them and QEMU delivers the missed ones (``tickpolicy='catchup'``), a part
of the pause comes back by itself, unless Hyper-V's timers (``stimer``) give the ticks.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta, tzinfo
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

#: ``<clock offset=…>`` that libvirt knows.
UTC_RTC, LOCALTIME, TIMEZONE, VARIABLE, ABSOLUTE = (
    "utc",
    "localtime",
    "timezone",
    "variable",
    "absolute",
)
_OFFSETS = frozenset((UTC_RTC, LOCALTIME, TIMEZONE, VARIABLE, ABSOLUTE))


@dataclass(frozen=True)
class Timekeeping:
    """What a guest's description says of its clocks."""

    offset: str = UTC_RTC
    """What the RTC shows at the guest's start: ``utc``, ``localtime``, ``timezone`` …"""
    zone: str | None = None
    """The name of the time zone, where ``offset`` is ``timezone``."""
    adjustment_s: int | None = 0
    """What is added to that, where ``offset`` is ``variable``; None: not told in seconds."""
    rtc_track: str = "wall"
    """``wall`` (the RTC goes on through a pause; libvirt's default) or ``guest``."""
    rtc_tickpolicy: str | None = None
    hypervclock: bool = False
    """Whether Windows may read Hyper-V's reference clock."""
    enlightenments: tuple[str, ...] = ()
    """Hyper-V enlightenments that are on, sorted; ``passthrough``: all that the host has."""

    @property
    def reinjects_ticks(self) -> bool:
        """Return True if a guest that counts ticks may get those of the pause later."""
        return self.rtc_tickpolicy == "catchup" and not self._has_hyperv_timers

    @property
    def _has_hyperv_timers(self) -> bool:
        return not {"stimer", "passthrough"}.isdisjoint(self.enlightenments)

    @property
    def made_for_windows(self) -> bool:
        """Return True if the description says what only Windows has a use for."""
        return self.hypervclock or bool(self.enlightenments)

    def rtc_ahead_s(self, now: datetime, local: tzinfo | None = None) -> float | None:
        """Return what the RTC should show against UTC, in seconds; None: it cannot be known.

        ``now`` is aware. ``local`` is the host's time zone; None: this machine's own.
        """
        if self.offset == UTC_RTC:
            return 0.0
        if self.offset == LOCALTIME:
            return _seconds(now.astimezone(local).utcoffset())
        if self.offset == TIMEZONE and self.zone:
            return _zone_ahead_s(self.zone, now)
        if self.offset == VARIABLE and self.adjustment_s is not None:
            return float(self.adjustment_s)
        return None

    @property
    def shown(self) -> str:
        """Return it in words, for records and people."""
        parts = [f"RTC in {self.zone or self.offset}"]
        if self.rtc_tickpolicy:
            parts.append(f"tick policy {self.rtc_tickpolicy}")
        if self.hypervclock:
            parts.append("Hyper-V clock")
        if self.enlightenments:
            parts.append(f"Hyper-V: {', '.join(self.enlightenments)}")
        return "; ".join(parts)


def timekeeping(root: Element) -> Timekeeping:
    """Return what ``<clock>`` and ``<features><hyperv>`` of a domain's XML say."""
    clock = root.find("clock")
    rtc, reference = root.find("clock/timer[@name='rtc']"), None
    offset, zone = UTC_RTC, None
    if clock is not None:
        reference = clock.find("timer[@name='hypervclock']")
        said = clock.get("offset", UTC_RTC)
        offset = said if said in _OFFSETS else "unknown"
        zone = clock.get("timezone")
    return Timekeeping(
        offset=offset,
        zone=zone,
        adjustment_s=_adjustment(clock) if clock is not None else 0,
        rtc_track=_attribute(rtc, "track") or "wall",
        rtc_tickpolicy=_attribute(rtc, "tickpolicy"),
        hypervclock=reference is not None and reference.get("present", "yes") == "yes",
        enlightenments=_enlightenments(root.find("features/hyperv")),
    )


def _adjustment(clock: Element) -> int | None:
    """``basis='localtime'`` is added by libvirt at the start, and is not told in seconds."""
    if clock.get("basis", UTC_RTC) != UTC_RTC:
        return None
    try:
        return int(clock.get("adjustment", "0"))
    except ValueError:
        return None


def _enlightenments(hyperv: Element | None) -> tuple[str, ...]:
    if hyperv is None:
        return ()
    on = {one.tag for one in hyperv if one.get("state") == "on"}
    if hyperv.get("mode") == "passthrough":
        on.add("passthrough")
    return tuple(sorted(on))


def _zone_ahead_s(zone: str, now: datetime) -> float | None:
    import zoneinfo  # not for the guardian, which stays small

    try:
        return _seconds(now.astimezone(zoneinfo.ZoneInfo(zone)).utcoffset())
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        return None


def _attribute(element: Element | None, name: str) -> str | None:
    return element.get(name) if element is not None else None


def _seconds(offset: timedelta | None) -> float | None:
    return offset.total_seconds() if offset is not None else None
