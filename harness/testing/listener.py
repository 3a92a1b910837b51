"""A web server on loopback that takes notices, and answers as a test wants it to."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Taken:
    """One request."""

    path: str
    headers: Mapping[str, str]
    body: bytes


@dataclass
class Listener:
    """What came, and what is answered: one status a request, the last of them from then on."""

    url: str = ""
    answers: list[int] = field(default_factory=lambda: [204])
    taken: list[Taken] = field(default_factory=list)


@contextmanager
def listening(*answers: int) -> Iterator[Listener]:
    """Listen for the time of a ``with``."""
    listener = Listener(answers=list(answers) or [204])

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            listener.taken.append(Taken(self.path, dict(self.headers), body))
            answers = listener.answers
            self.send_response(answers.pop(0) if len(answers) > 1 else answers[0])
            self.send_header("Location", "/elsewhere")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        listener.url = f"http://127.0.0.1:{server.server_address[1]}/notices"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield listener
        finally:
            server.shutdown()
            thread.join()
