"""Faults that real deployments show, for client authors: set by a rehearsal, seen by its guests."""

from __future__ import annotations

import asyncio

from starlette.responses import Response

from harness.core.durations import parse

#: kind → what guests meet; ``slow`` may say how long: ``slow:5s``.
KINDS = {
    "slow": "the first answer takes up to two minutes",
    "empty": "200 with nothing in it",
    "text": "200, text/plain, no JSON",
    "410": "gone, as during an upgrade of the service",
    "429": "too many requests, whatever the rate",
    "500": "internal error",
}
LONGEST_SLOW_S = 120.0


def check_kind(text: str) -> str:
    """``text`` if it is a fault. Raises ValueError."""
    kind, _, slow = text.partition(":")
    if kind not in KINDS or (slow and kind != "slow"):
        raise ValueError(f"{text!r} is no fault; there are {', '.join(KINDS)}, and slow:DURATION")
    if slow and parse(slow, bare=True) > LONGEST_SLOW_S:  # an answer is waited for in seconds
        raise ValueError(f"slow: at most {LONGEST_SLOW_S:g} s")
    return text


async def faulty(fault: str | None, *, first: bool) -> Response | None:
    """The wrong answer; None after a slow one, which is right in the end."""
    kind, _, slow = (fault or "").partition(":")
    if kind == "slow" and first:
        await asyncio.sleep(parse(slow, bare=True) if slow else LONGEST_SLOW_S)
    if kind == "empty":
        return Response(b"", 200)
    if kind == "text":
        return Response(b"Service is starting.", 200, media_type="text/plain")
    return Response(status_code=int(kind)) if kind.isdecimal() else None
