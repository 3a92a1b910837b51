"""``/metrics`` for a collector on this host: a listener of its own, on loopback and nowhere else.

Guests cannot reach it, and what it answers is not for them: it names all of them.
"""

from __future__ import annotations

import ipaddress
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from harness.core.errors import ConfigError, EventError

#: A collector asks by itself, every few seconds.
_AT_ONCE = 8
_PATIENCE_S = 5.0
_KEY = "metrics.listen"


def parse(text: str) -> tuple[str, int]:
    """Return address and port of ``127.0.0.1:9464`` or ``[::1]:9464``; raise ConfigError."""
    address, _, port = text.rpartition(":")
    address = address.removeprefix("[").removesuffix("]")
    try:
        is_loopback = ipaddress.ip_address(address).is_loopback
        number = int(port)
    except ValueError as error:
        message = f"{text!r} is no address with a port such as 127.0.0.1:9464"
        raise ConfigError(message, key=_KEY) from error
    if not is_loopback or not 0 <= number <= 65535:
        raise ConfigError(
            f"{text!r}: expected a loopback address and a port up to 65535",
            key=_KEY,
            hint="127.0.0.1:9464; it names all guests, so it stays on this host",
        )
    return address, number


class _Server(ThreadingHTTPServer):
    daemon_threads = True


@contextmanager
def metrics_served(
    where: tuple[str, int], text: Callable[[], str], content_type: str
) -> Iterator[int]:
    """Answer ``GET /metrics`` with ``text()`` for the time of a ``with``; the port.

    Raises EventError if the address cannot be listened on.
    """
    places = threading.BoundedSemaphore(_AT_ONCE)

    class Handler(BaseHTTPRequestHandler):
        timeout = _PATIENCE_S
        server_version, sys_version = "harness", ""

        def do_GET(self) -> None:
            """Answer one request; of many at once some get 503, to come again."""
            if self.path.partition("?")[0] != "/metrics":
                self._answer(404, b"not found\n", "text/plain")
            elif not places.acquire(blocking=False):
                self._answer(503, b"busy\n", "text/plain")
            else:
                try:
                    self._answer(200, text().encode(), content_type)
                finally:
                    places.release()

        def _answer(self, status: int, body: bytes, kind: str) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    _Server.address_family = socket.AF_INET6 if ":" in where[0] else socket.AF_INET
    try:
        server = _Server(where, Handler)
    except OSError as error:
        raise EventError(
            f"cannot serve metrics on {where[0]}:{where[1]}: {error.strerror}"
        ) from error
    with server:
        thread = threading.Thread(target=server.serve_forever, name="metrics", daemon=True)
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join(_PATIENCE_S)
