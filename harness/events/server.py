"""One server process a state folder: sockets, application, and what goes on beside requests."""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
import resource
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from logging.handlers import RotatingFileHandler
from pathlib import Path

import uvicorn

from harness.errors import EventError
from harness.events.app import MetadataService
from harness.events.desk import Desk
from harness.events.directory import Directory
from harness.events.limits import CONNECTIONS, IDLE_S, REQUESTS_A_SECOND, GuardedProtocol, RateLimit

_LOCK = "events-server.lock"
_ACCESS_LOG = "events-access.log"
_ACCESS_BYTES = 8 * 1024 * 1024
_TICK_S = 1.0
#: Descriptors beside those of connections.
_OTHER_FILES = 256


@contextmanager
def sole_server(state_dir: Path) -> Iterator[None]:
    """Be the server of a state folder. Raises EventError if another is."""
    state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(state_dir / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise EventError(f"events are served from {state_dir} already") from error
        yield
    finally:
        os.close(descriptor)


def is_served(state_dir: Path) -> bool:
    """Whether a server of this state folder lives."""
    try:
        with sole_server(state_dir):
            return False
    except EventError:
        return True


def serve(
    state_dir: Path,
    sockets: Sequence[socket.socket],
    directory: Directory,
    *,
    rate: int = REQUESTS_A_SECOND,
    ready: Callable[[], None] = lambda: None,
    beside: Callable[[], None] = lambda: None,
    until_eof_of: int | None = None,
) -> None:
    """Answer guests until TERM or INT, or until ``until_eof_of`` (a descriptor) is closed.

    ``beside`` is called once a second in a thread; ``ready`` once, when guests are answered.
    """
    _prepare_log(state_dir)
    _allow_connections()
    asyncio.run(_serve(state_dir, sockets, directory, rate, ready, beside, until_eof_of))


async def _serve(
    state_dir: Path,
    sockets: Sequence[socket.socket],
    directory: Directory,
    rate: int,
    ready: Callable[[], None],
    beside: Callable[[], None],
    until_eof_of: int | None,
) -> None:
    desk = Desk(state_dir)
    server = uvicorn.Server(
        uvicorn.Config(
            MetadataService(desk, directory, RateLimit(rate)),
            http=GuardedProtocol,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_keep_alive=IDLE_S,
            timeout_graceful_shutdown=1,
        )
    )

    def leave() -> None:
        server.should_exit = True

    if until_eof_of is not None:
        asyncio.get_running_loop().add_reader(until_eof_of, leave)
    work = asyncio.create_task(_look_beside(server, ready, beside))
    try:
        await server.serve(sockets=list(sockets))
    finally:
        work.cancel()
        with suppress(asyncio.CancelledError):
            await work
        desk.close()


async def _look_beside(
    server: uvicorn.Server, ready: Callable[[], None], beside: Callable[[], None]
) -> None:
    while not server.started:
        await asyncio.sleep(0.01)
    ready()
    while True:
        await asyncio.to_thread(beside)
        await asyncio.sleep(_TICK_S)


def _prepare_log(state_dir: Path) -> None:
    """Who asked for what; bounded, as guests decide how much there is to write."""
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)  # guests must not fill our stderr
    handler = RotatingFileHandler(
        state_dir / _ACCESS_LOG, maxBytes=_ACCESS_BYTES, backupCount=1, delay=True
    )
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    access = logging.getLogger("harness.events.access")
    access.setLevel(logging.INFO)
    access.propagate = False
    access.addHandler(handler)


def _allow_connections() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = CONNECTIONS + _OTHER_FILES
    limit = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
