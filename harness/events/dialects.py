"""The same events as Google's and Amazon's metadata services say them. Pure, read-only."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Sequence
from typing import Any

from harness.core.timebase import NS_PER_S
from harness.events.document import VISIBLE, Event, EventType, Snapshot, utc

GOOGLE_PATH = "/computemetadata/v1/instance/maintenance-event"
AMAZON_PATH = "/latest/meta-data/events/maintenance/scheduled"
AMAZON_TOKEN_PATH = "/latest/api/token"
AMAZON_LONGEST_TTL_S = 21_600

_GOOGLE = {EventType.FREEZE: "MIGRATE_ON_HOST_MAINTENANCE"}
_AMAZON = {
    EventType.FREEZE: "system-maintenance",
    EventType.REBOOT: "system-reboot",
    EventType.REDEPLOY: "instance-stop",
    EventType.PREEMPT: "instance-stop",
    EventType.TERMINATE: "instance-retirement",
}


def events_of(snapshot: Snapshot, name: str) -> Sequence[Event]:
    """Both dialects tell a guest of what hits itself, not of what hits its set."""
    return [e for e in snapshot.events if e.state in VISIBLE and name in e.resources]


def google(events: Sequence[Event]) -> tuple[str, str]:
    """The value of ``maintenance-event`` and its ETag."""
    value = _GOOGLE.get(events[0].event_type, "TERMINATE_ON_HOST_MAINTENANCE") if events else "NONE"
    told = "".join(f"{event.event_id} {event.state}\n" for event in events)
    return value, hashlib.sha256(f"{value}\n{told}".encode()).hexdigest()[:16]


def amazon(events: Sequence[Event]) -> str:
    """The JSON of ``events/maintenance/scheduled``."""
    return json.dumps([_amazon(event) for event in events])


def _amazon(event: Event) -> dict[str, Any]:
    latest_ns = event.not_before_ns + round(max(event.duration_s, 0) * NS_PER_S)
    return {
        "NotBefore": _amazon_time(event.not_before_ns),
        "Code": _AMAZON[event.event_type],
        "Description": event.description,
        "EventId": "instance-event-" + event.event_id.replace("-", "").lower()[:17],
        "NotAfter": _amazon_time(latest_ns),
        "State": "active",
    }


def _amazon_time(at_ns: int) -> str:
    return f"{utc(at_ns):%-d %b %Y %H:%M:%S} GMT"


def issue_token(secret: bytes, guest: str, until_ns: int) -> str:
    """An IMDSv2 session token: good for this guest only, until CLOCK_MONOTONIC ``until_ns``."""
    said = f"{until_ns} {guest}".encode()
    seal = hmac.digest(secret, said, "sha256")
    return base64.urlsafe_b64encode(str(until_ns).encode() + b"." + seal).decode()


def token_is_good(secret: bytes, guest: str, token: str, now_ns: int) -> bool:
    """Whether we gave ``token`` to this guest and it has not expired."""
    try:
        until, _, _ = base64.urlsafe_b64decode(token.encode()).partition(b".")
        until_ns = int(until)
    except ValueError:
        return False
    expected = issue_token(secret, guest, until_ns)
    return now_ns < until_ns and hmac.compare_digest(expected.encode(), token.encode())
