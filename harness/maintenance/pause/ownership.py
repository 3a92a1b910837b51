"""Whose guests are they? Which guests a run holds, by its journal, libvirt's events and errors.

Pure. A guest is *held* from the journalled intent to pause it until somebody (the run, its
guardian, ``harness recover``) has written that it was resumed, or that it never became ours.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from harness.core.errors import GuestNotFound, WrongState
from harness.host.protocol import EventKind, LifecycleEvent

#: Said before a guest is paused: somebody else paused it, it is shut off, or gone. Said when it is
#: to be resumed: it has ended. After any other error it may be paused, by us.
NOT_OURS = (WrongState, GuestNotFound)


@dataclass(frozen=True)
class Member:
    """A guest of an update domain."""

    name: str
    uuid: str


#: Entries after which a guest is not held any more. ``refused``: it was not running when we came
#: to pause it, so the pause was never made. ``taken over``: somebody else resumed it. ``ended``:
#: shut off, crashed or gone.
_RELEASES = frozenset({"refused", "resumed", "taken over", "ended"})


def held(entries: Iterable[Mapping[str, Any]]) -> tuple[Member, ...]:
    """The guests that the run may still hold, in the order in which they were to be paused."""
    members: dict[str, Member] = {}
    for entry in entries:
        if entry["event"] == "pausing":
            for guest in entry["guests"]:
                members[guest["uuid"]] = Member(guest["name"], guest["uuid"])
        elif entry["event"] in _RELEASES:
            members.pop(entry["uuid"], None)
    return tuple(members.values())


def unmended(entries: Iterable[Mapping[str, Any]]) -> tuple[Member, ...]:
    """The guests that the run may have paused and whose clocks it has not looked at since."""
    members: dict[str, Member] = {}
    for entry in entries:
        if entry["event"] == "pausing":
            for guest in entry["guests"]:
                members[guest["uuid"]] = Member(guest["name"], guest["uuid"])
        elif entry["event"] in ("refused", "mended"):
            members.pop(entry["uuid"], None)
    return tuple(members.values())


def announced(entries: Iterable[Mapping[str, Any]], member: Member, besides: str) -> bool:
    """Whether somebody of ours other than ``besides`` has set about resuming this guest."""
    found = False
    for entry in entries:
        if entry["event"] == "pausing":
            found = False  # what came before belongs to an earlier pause window
        elif entry["event"] == "resuming" and entry["by"] != besides:
            found = found or any(guest["uuid"] == member.uuid for guest in entry["guests"])
    return found


def resumed_since(events: Iterable[LifecycleEvent], since_ns: int) -> bool:
    """Whether a guest that we paused after ``since_ns`` (CLOCK_MONOTONIC) was resumed since.

    Asked before we resume it ourselves: then somebody else did, and a pause that came after that
    is somebody else's too.
    """
    kinds = [event.kind for event in events if event.at_ns >= since_ns]
    if EventKind.SUSPENDED not in kinds:
        return False
    return EventKind.RESUMED in kinds[kinds.index(EventKind.SUSPENDED) :]
