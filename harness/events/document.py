"""What guests read, byte for byte: events → the document of each api-version.

Pure. The contract: exactly the keys of the version asked for, one EventId for life, RFC 1123
times, the same bytes for the same incarnation. Other dialects of the same events are in
:mod:`harness.events.dialects`.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from enum import StrEnum
from typing import Any

from harness.core.timebase import NS_PER_S

RESOURCE_TYPE = "VirtualMachine"

_FIRST_KEYS = (
    "EventId",
    "EventType",
    "ResourceType",
    "Resources",
    "EventStatus",
    "NotBefore",
)
_KEYS_SINCE = {
    "2019-04-01": "Description",
    "2019-08-01": "EventSource",
    "2020-07-01": "DurationInSeconds",
}
#: Oldest first.
VERSIONS = (
    "2017-03-01",
    "2017-08-01",
    "2017-11-01",
    "2019-01-01",
    "2019-04-01",
    "2019-08-01",
    "2020-07-01",
)
NEWEST_VERSIONS = tuple(reversed(VERSIONS[-3:]))
#: The version that asked for no Metadata header and wrote ``_name``.
FIRST_VERSION = VERSIONS[0]


class EventType(StrEnum):
    """What will happen to the guest."""

    FREEZE = "Freeze"
    REBOOT = "Reboot"
    REDEPLOY = "Redeploy"
    PREEMPT = "Preempt"
    TERMINATE = "Terminate"


_TYPE_SINCE = {EventType.PREEMPT: "2017-11-01", EventType.TERMINATE: "2019-01-01"}

#: The shortest notice that guests may count on, in seconds.
MINIMUM_NOTICE_S = {
    EventType.FREEZE: 900.0,
    EventType.REBOOT: 900.0,
    EventType.REDEPLOY: 600.0,
    EventType.PREEMPT: 30.0,
    EventType.TERMINATE: 300.0,
}


class State(StrEnum):
    """Where an event is in its life; guests see ``SCHEDULED`` and ``STARTED`` only."""

    PLANNED = "planned"
    SCHEDULED = "scheduled"
    STARTED = "started"
    ENDED = "ended"
    CANCELLED = "cancelled"


#: The states in which an event is in the document.
VISIBLE = (State.SCHEDULED, State.STARTED)


class Source(StrEnum):
    """Who wants it."""

    PLATFORM = "Platform"
    USER = "User"


@dataclass(frozen=True)
class Event:
    """One event; ``resources`` are names of guests of one update domain."""

    event_id: str
    event_type: EventType
    resources: tuple[str, ...]
    state: State
    not_before_ns: int
    """CLOCK_REALTIME, a whole second; 0 while it is only planned."""
    description: str = ""
    source: Source = Source.PLATFORM
    duration_s: float = -1
    """Expected interruption; 0: none, -1: unknown."""


@dataclass(frozen=True)
class Snapshot:
    """Everything that a scope's guests see at one incarnation."""

    incarnation: int
    events: tuple[Event, ...] = ()


@dataclass(frozen=True)
class Document:
    """A rendered answer."""

    incarnation: int
    body: bytes
    etag: str


def render(snapshot: Snapshot, version: str) -> Document:
    """The document of one api-version. Raises KeyError for a version that we do not have."""
    keys = keys_of(version)
    shown = [
        {key: value for key, value in _all_fields(event, version).items() if key in keys}
        for event in snapshot.events
        if event.state in VISIBLE and _TYPE_SINCE.get(event.event_type, "") <= version
    ]
    data = {"DocumentIncarnation": snapshot.incarnation, "Events": shown}
    body = json.dumps(data, separators=(",", ":")).encode("ascii")
    digest = hashlib.sha256(body).hexdigest()[:16]
    return Document(snapshot.incarnation, body, f'"{snapshot.incarnation}-{digest}"')


def keys_of(version: str) -> frozenset[str]:
    """The keys that an event has in ``version``. Raises KeyError."""
    if version not in VERSIONS:
        raise KeyError(version)
    later = (key for since, key in _KEYS_SINCE.items() if since <= version)
    return frozenset((*_FIRST_KEYS, *later))


def _all_fields(event: Event, version: str) -> dict[str, Any]:
    prefix = "_" if version == FIRST_VERSION else ""
    waiting = event.state is State.SCHEDULED
    return {
        "EventId": event.event_id,
        "EventType": event.event_type.value,
        "ResourceType": RESOURCE_TYPE,
        "Resources": [prefix + name for name in event.resources],
        "EventStatus": "Scheduled" if waiting else "Started",
        "NotBefore": http_time(event.not_before_ns) if waiting else "",
        "Description": event.description,
        "EventSource": event.source.value,
        "DurationInSeconds": _whole(event.duration_s),
    }


def http_time(at_ns: int) -> str:
    """RFC 1123: ``Sat, 11 Apr 2026 22:26:58 GMT``; part of a second counts as a whole one."""
    return format_datetime(utc(at_ns), usegmt=True)


def utc(at_ns: int) -> datetime:
    """CLOCK_REALTIME nanoseconds as a time in UTC, rounded up to a whole second: never early."""
    seconds = -(-at_ns // NS_PER_S)
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds)


def _whole(seconds: float) -> int:
    """Rounded up: a guest that trusts it is not surprised."""
    return -1 if seconds < 0 else math.ceil(seconds)


class Malformed(ValueError):
    """What a guest sent is no approval."""


def parse_approval(body: bytes) -> tuple[str, ...]:
    """The EventIds of ``{"StartRequests": [{"EventId": …}, …]}``, upper case. Raises Malformed.

    Other keys are ignored, whatever they hold; a Content-Type is not looked at.
    """
    try:
        data = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise Malformed("not JSON") from error
    requests = data.get("StartRequests") if isinstance(data, dict) else None
    if not isinstance(requests, list) or not requests:
        raise Malformed("StartRequests must be a list of events")
    return tuple(dict.fromkeys(_event_id(request) for request in requests))


def _event_id(request: object) -> str:
    event_id = request.get("EventId") if isinstance(request, dict) else None
    if not isinstance(event_id, str) or not event_id:
        raise Malformed("EventId must be a string")
    if not event_id.isascii():  # half of a surrogate pair is JSON, but no text
        raise Malformed("EventId must be ASCII")
    return event_id.upper()


def check_transition(before: State, after: State) -> bool:
    """Whether an event may go from ``before`` to ``after``."""
    return after in _NEXT[before]


_NEXT: dict[State, Sequence[State]] = {
    State.PLANNED: (State.SCHEDULED, State.STARTED, State.CANCELLED),
    State.SCHEDULED: (State.STARTED, State.CANCELLED),
    State.STARTED: (State.ENDED,),
    State.ENDED: (),
    State.CANCELLED: (),
}
