"""The two read-only dialects over HTTP: Google's ``maintenance-event``, Amazon's IMDSv2."""

from __future__ import annotations

import asyncio
import json
import secrets

from starlette.requests import Request
from starlette.responses import Response

from harness.core.timebase import NS_PER_S
from harness.events.cache import Desk
from harness.events.dialects import (
    AMAZON_LONGEST_TTL_S,
    amazon,
    events_of,
    google,
    issue_token,
    token_is_good,
)
from harness.events.schema import Member

_LOOK_S = 0.1
_LONGEST_WAIT_S = 3600.0
_TTL_HEADER = "x-aws-ec2-metadata-token-ttl-seconds"
_TOKEN_HEADER = "x-aws-ec2-metadata-token"


class Foreign:
    """Both dialects, from the same store."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._secret = secrets.token_bytes(32)

    async def google(self, request: Request, member: Member) -> Response:
        """``maintenance-event``; with ``wait_for_change`` not before it changes."""
        if request.method != "GET":
            return Response(status_code=405)
        if (
            request.headers.get("metadata-flavor", "").lower() != "google"
            or "x-forwarded-for" in request.headers
        ):
            return Response(status_code=403)
        query = request.query_params
        value, etag = self._google_now(member)
        if query.get("wait_for_change", "").lower() == "true":
            try:
                wait_s = float(query.get("timeout_sec", _LONGEST_WAIT_S))
            except ValueError:
                return Response(status_code=400)
            known = query.get("last_etag", etag)
            until_s = self._desk.now_s() + min(wait_s, _LONGEST_WAIT_S)
            # NaN compares false, and ends the waiting.
            while etag == known and self._desk.now_s() < until_s:
                if await request.is_disconnected():
                    break
                await asyncio.sleep(_LOOK_S)
                value, etag = self._google_now(member)
        headers = {"Metadata-Flavor": "Google", "ETag": etag}
        if query.get("alt") == "json":
            body, media_type = json.dumps(value), "application/json"
        else:
            body, media_type = value, "application/text"
        return Response(body, headers=headers, media_type=media_type)

    def _google_now(self, member: Member) -> tuple[str, str]:
        return google(events_of(self._desk.snapshot(member.scope), member.name))

    async def amazon_token(self, request: Request, member: Member) -> Response:
        """A session token for the time that the guest asks for."""
        if request.method != "PUT":
            return Response(status_code=405)
        if "x-forwarded-for" in request.headers:
            return Response(status_code=403)
        asked = request.headers.get(_TTL_HEADER, "")
        if not (asked.isascii() and asked.isdecimal() and len(asked) < 6):
            return Response(status_code=400)
        if not 1 <= int(asked) <= AMAZON_LONGEST_TTL_S:
            return Response(status_code=400)
        until_ns = round(self._desk.now_s() * NS_PER_S) + int(asked) * NS_PER_S
        token = issue_token(self._secret, member.uuid, until_ns)
        return Response(token, headers={_TTL_HEADER: asked}, media_type="text/plain")

    async def amazon(self, request: Request, member: Member) -> Response:
        """``events/maintenance/scheduled``, for a caller with a token."""
        if request.method != "GET":
            return Response(status_code=405)
        token = request.headers.get(_TOKEN_HEADER, "")
        now_ns = round(self._desk.now_s() * NS_PER_S)
        if not token_is_good(self._secret, member.uuid, token, now_ns):
            return Response(status_code=401)
        events = events_of(self._desk.snapshot(member.scope), member.name)
        return Response(amazon(events), media_type="application/json")
