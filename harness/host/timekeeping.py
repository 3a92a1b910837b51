"""How a guest's time is kept by its virtual hardware, read from libvirt's XML; pure.

Linux counts time by a clocksource, so a pause costs its clock exactly the pause. Windows counts
ticks. Where the RTC gives them and QEMU delivers the missed ones (``tickpolicy='catchup'``), a part
of the pause comes back by itself, unless Hyper-V's timers (``stimer``) give the ticks.
"""

from __future__ import annotations

from datetime import datetime, timedelta, tzinfo
from typing import TYPE_CHECKING

from harness.host.protocol import Timekeeping

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

#: ``<clock offset=…>`` that libvirt knows.
_OFFSETS = frozenset(("utc", "localtime", "timezone", "variable", "absolute"))


def timekeeping(root: Element) -> Timekeeping:
    """Return what ``<clock>`` and ``<features><hyperv>`` of a domain's XML say."""
    clock = root.find("clock")
    rtc, reference = root.find("clock/timer[@name='rtc']"), None
    offset, zone = "utc", None
    if clock is not None:
        reference = clock.find("timer[@name='hypervclock']")
        said = clock.get("offset", "utc")
        offset = said if said in _OFFSETS else "unknown"
        zone = clock.get("timezone")
    return Timekeeping(
        offset=offset,
        zone=zone,
        adjustment_s=_adjustment(clock) if clock is not None else 0,
        rtc_tickpolicy=_attribute(rtc, "tickpolicy"),
        hypervclock=reference is not None and reference.get("present", "yes") == "yes",
        enlightenments=_enlightenments(root.find("features/hyperv")),
    )


def rtc_track(root: Element) -> str:
    """Return ``wall`` (the RTC goes on through a pause; libvirt's default) or ``guest``."""
    return _attribute(root.find("clock/timer[@name='rtc']"), "track") or "wall"


def reinjects_ticks(kept: Timekeeping | None) -> bool:
    """Return True if a guest that counts ticks may get those of the pause later."""
    if kept is None or kept.rtc_tickpolicy != "catchup":
        return False
    return {"stimer", "passthrough"}.isdisjoint(kept.enlightenments)


def made_for_windows(kept: Timekeeping | None) -> bool:
    """Return True if the description says what only Windows has a use for."""
    return kept is not None and (kept.hypervclock or bool(kept.enlightenments))


def rtc_ahead_s(
    kept: Timekeeping | None, now: datetime, local: tzinfo | None = None
) -> float | None:
    """Return what the RTC should show against UTC, in seconds; None: it cannot be known.

    ``now`` is aware. ``local`` is the host's time zone; None: this machine's own.
    """
    if kept is None:
        return None
    if kept.offset == "utc":
        return 0.0
    if kept.offset == "localtime":
        return _seconds(now.astimezone(local).utcoffset())
    if kept.offset == "timezone" and kept.zone:
        return _zone_ahead_s(kept.zone, now)
    if kept.offset == "variable" and kept.adjustment_s is not None:
        return float(kept.adjustment_s)
    return None


def shown(kept: Timekeeping | None) -> str:
    """Return it in words, for records and people."""
    if kept is None:
        return "not described"
    parts = [f"RTC in {kept.zone or kept.offset}"]
    if kept.rtc_tickpolicy:
        parts.append(f"tick policy {kept.rtc_tickpolicy}")
    if kept.hypervclock:
        parts.append("Hyper-V clock")
    if kept.enlightenments:
        parts.append(f"Hyper-V: {', '.join(kept.enlightenments)}")
    return "; ".join(parts)


def _adjustment(clock: Element) -> int | None:
    """``basis='localtime'`` is added by libvirt at the start, and is not told in seconds."""
    if clock.get("basis", "utc") != "utc":
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
