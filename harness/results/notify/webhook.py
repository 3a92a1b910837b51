"""A notice by HTTP: JSON, signed, tried again where the other side may get better.

The signature is HMAC-SHA256, in hexadecimal, of the timestamp, a dot and the body, by the shared
secret. A receiver compares it in constant time, refuses old timestamps, and drops a delivery id
that it has seen: every try of one notice has the same.
"""

from __future__ import annotations

import hashlib
import hmac
import urllib.error
import urllib.request
import uuid
from collections.abc import Mapping
from email.message import Message
from http import HTTPStatus
from http.client import HTTPException
from typing import IO

from harness.core.errors import InfrastructureError
from harness.core.timebase import Clock, Deadline
from harness.results.notify.notice import Notice

TRIES = 3
_FIRST_WAIT_S = 1.0
_TRY_AGAIN = (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS)


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """Where the notice goes is configured; another address would get it unasked."""

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: Message,
        newurl: str,
    ) -> None:
        """Follow none."""


def signature(secret: bytes, timestamp: str, body: bytes) -> str:
    """Return the value of ``X-Harness-Signature``."""
    digest = hmac.new(secret, timestamp.encode() + b"." + body, hashlib.sha256).hexdigest()
    return f"sha256={digest}"


def send(
    notice: Notice,
    url: str,
    secret: bytes | None,
    deadline: Deadline,
) -> None:
    """POST ``notice`` to ``url``; no proxy and no redirection is used.

    Raises InfrastructureError if it was not taken after some tries, or by ``deadline``.
    """
    body, delivery, wait_s = notice.as_json().encode(), uuid.uuid4().hex, _FIRST_WAIT_S
    for number in range(1, TRIES + 1):
        problem, again = _post(
            url, body, _headers(body, delivery, secret, deadline.clock), deadline
        )
        if problem is None:
            return
        if not again or number == TRIES or deadline.remaining_s() <= wait_s:
            raise InfrastructureError(f"the webhook did not take it ({number} tries): {problem}")
        deadline.clock.sleep(wait_s)
        wait_s *= 2


def _headers(body: bytes, delivery: str, secret: bytes | None, clock: Clock) -> Mapping[str, str]:
    timestamp = str(clock.realtime_ns() // 1_000_000_000)
    headers = {
        "Content-Type": "application/json",
        "User-Agent": "harness",
        "X-Harness-Delivery": delivery,
        "X-Harness-Timestamp": timestamp,
    }
    if secret is not None:
        headers["X-Harness-Signature"] = signature(secret, timestamp, body)
    return headers


def _post(
    url: str, body: bytes, headers: Mapping[str, str], deadline: Deadline
) -> tuple[str | None, bool]:
    """Return what went wrong, if anything, and whether it may go better next time."""
    request = urllib.request.Request(url, body, dict(headers), method="POST")
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), _NoRedirects)
    try:
        with opener.open(request, timeout=max(0.1, deadline.remaining_s())):
            return None, False
    except urllib.error.HTTPError as error:
        error.close()
        return f"HTTP {error.code}", error.code >= 500 or error.code in _TRY_AGAIN
    except (OSError, ValueError, HTTPException) as error:  # URLError is an OSError
        return str(getattr(error, "reason", error)), True
