"""What guests may ask over HTTP, as an ASGI application.

Everything a guest sends is hostile. The caller is who its address says it is, never what its
headers say; a stranger gets an empty 404 and learns nothing. Errors are those of the contract.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import parse_qsl

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from harness.core.errors import EventError, HarnessError
from harness.events import instance
from harness.events.cache import Desk
from harness.events.callers import Directory
from harness.events.dialects import AMAZON_PATH, AMAZON_TOKEN_PATH, GOOGLE_PATH
from harness.events.document import (
    FIRST_VERSION,
    NEWEST_VERSIONS,
    VERSIONS,
    Document,
    Malformed,
    parse_approval,
)
from harness.events.faults import faulty
from harness.events.foreign import Foreign
from harness.events.limits import RateLimit, read_body
from harness.events.schema import Member

EVENTS_PATH = "/metadata/scheduledevents"
INSTANCE_PATH = "/metadata/instance"
JSON = "application/json; charset=utf-8"
NO_HEADER = b'{ "error": "Bad request: . Required metadata header not specified" }'

_log = logging.getLogger("harness.events")
_access = logging.getLogger("harness.events.access")

#: A caller that floods waits, so that a flood costs this host little; a guest has few connections.
_TARPIT_S = 0.1

Handler = Callable[[Request, Member], Awaitable[Response]]


class Refused(Exception):
    """The answer to a request that breaks the contract."""

    def __init__(self, status: int, body: bytes = b"") -> None:
        super().__init__(status)
        self.response = Response(body, status, media_type=JSON if body else None)


def bad(text: str, **more: Any) -> Refused:
    """400 with the error in words."""
    return Refused(400, json.dumps({"error": text, **more}).encode())


class MetadataService:
    """The application. ``directory`` says which guest a source address is."""

    def __init__(self, desk: Desk, directory: Directory, rate: RateLimit | None = None) -> None:
        self._desk = desk
        self._directory = directory
        self._rate = rate or RateLimit()
        self._answered: Counter[str] = Counter()
        foreign = Foreign(desk)
        self._handlers: dict[str, Handler] = {
            EVENTS_PATH: self._events,
            GOOGLE_PATH: foreign.google,
            AMAZON_PATH: foreign.amazon,
            AMAZON_TOKEN_PATH: foreign.amazon_token,
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request (ASGI); a HarnessError answers 503, a bug 500."""
        if scope["type"] != "http":
            return
        request = Request(scope, receive)
        try:
            response = await self._answer(request)
        except ClientDisconnect:
            return
        except Refused as refused:
            response = refused.response
        except HarnessError as error:
            _log.error("%s", error)
            response = Response(status_code=503)
        except Exception:  # noqa: BLE001 - one request; the next guest is answered
            _log.exception("a request failed")
            response = Response(status_code=500)
        await response(scope, receive, send)

    async def _answer(self, request: Request) -> Response:
        address = request.client.host if request.client else ""
        connected_ns = request.scope.get("state", {}).get("connected_ns", 0)
        guest = await self._directory.find(address, connected_ns)
        if guest is None:
            await asyncio.sleep(_TARPIT_S)
            raise Refused(404)
        member = self._desk.member(guest.uuid, guest.name)
        if not self._rate.admit(member.uuid):
            await asyncio.sleep(_TARPIT_S)
            raise Refused(429, b'{"error": "Too many requests"}')
        path = request.scope["path"].lower().rstrip("/")
        handler = self._handlers.get(path)
        if handler is None and (path + "/").startswith(INSTANCE_PATH + "/"):
            handler = self._instance
        if handler is None:
            raise Refused(404)
        try:
            response = await handler(request, member)
        except Refused as refused:
            response = refused.response
        _note(request, member, response)
        return response

    async def _events(self, request: Request, member: Member) -> Response:
        if request.method not in ("GET", "POST"):
            raise Refused(405)
        version = _version(request)
        self._answered[member.uuid] += 1
        first = self._answered[member.uuid] == 1
        fault = await faulty(self._desk.fault(member.scope), first=first)
        if fault is not None:
            return fault
        if request.method == "POST":
            # Azure's first version asks for no header; a page in the guest's browser could approve.
            _require_header(request)
            return await self._approve(request, member)
        return self._document(request, self._desk.document(member.scope, version), member)

    def _document(self, request: Request, document: Document, member: Member) -> Response:
        self._desk.saw(member, document.incarnation)
        headers = {"ETag": document.etag}
        known = request.headers.get("if-none-match", "")
        if known.strip() == "*" or document.etag in (
            tag.strip().removeprefix("W/") for tag in known.split(",")
        ):
            return Response(status_code=304, headers=headers)
        return Response(document.body, headers=headers, media_type=JSON)

    async def _approve(self, request: Request, member: Member) -> Response:
        body = await read_body(request)
        if body is None:
            raise Refused(400, b'{"error": "Bad request. The body is too long"}')
        try:
            event_ids = parse_approval(body)
            await self._desk.approve(event_ids, member)
        except Malformed as error:
            raise bad(f"Bad request. {error}") from error
        except EventError as error:
            raise bad("Bad request. Unknown EventId") from error
        _access.info("%r approves %s", member.name, ", ".join(event_ids))
        return Response(status_code=200)

    async def _instance(self, request: Request, member: Member) -> Response:
        if request.method != "GET":
            raise Refused(405)
        query = _query(request)
        _require_header(request)
        if not instance.is_version(query.get("api-version", "")):
            raise _no_version()
        path = request.scope["path"].rstrip("/")[len(INSTANCE_PATH) :]
        found = instance.look_up(instance.describe(member), path, query.get("format", "json"))
        if found is None:
            raise Refused(404, b'{"error": "Not found"}')
        body, media_type = found
        return Response(body, media_type=media_type)


def _query(request: Request) -> dict[str, str]:
    """The parameters. Refuses a doubled one, and a request that was relayed."""
    if "x-forwarded-for" in request.headers:
        raise bad("Bad request. X-Forwarded-For is not allowed")
    pairs = [
        (key.lower(), value)
        for key, value in parse_qsl(
            request.scope["query_string"].decode("latin-1"), keep_blank_values=True
        )
    ]
    if len(dict(pairs)) != len(pairs):
        raise bad("Bad request. Duplicate query parameter")
    return dict(pairs)


def _version(request: Request) -> str:
    query = _query(request)
    version = query.get("api-version", "")
    if version != FIRST_VERSION:
        _require_header(request)
    if version not in VERSIONS:
        raise _no_version()
    return version


def _require_header(request: Request) -> None:
    if request.headers.get("metadata", "").strip().lower() != "true":
        raise Refused(400, NO_HEADER)


def _no_version() -> Refused:
    return bad(
        "Bad request. api-version is invalid or was not specified in the request.",
        **{"newest-versions": list(NEWEST_VERSIONS)},
    )


def _note(request: Request, member: Member, response: Response) -> None:
    if _access.isEnabledFor(logging.INFO):
        _access.info(
            "%r %s %r %d %s",
            member.name,
            request.method,
            request.scope["path"],
            response.status_code,
            response.headers.get("etag", "-"),
        )
