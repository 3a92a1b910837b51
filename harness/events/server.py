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
from functools import partial
from pathlib import Path

import uvicorn

from harness.core.errors import EventError, HarnessError
from harness.core.file_locks import hold, is_held
from harness.core.files import private_folder
from harness.core.trust import refuse_untrusted
from harness.events.app import MetadataService
from harness.events.cache import Desk
from harness.events.callers import Directory
from harness.events.limits import CONNECTIONS, IDLE_S, REQUESTS_A_SECOND, GuardedProtocol, RateLimit
from harness.events.logs import prepare_logs
from harness.events.shared import SharedStore

_log = logging.getLogger("harness.events")

_LOCK = "events-server.lock"
_TICK_S = 1.0
#: Clients ask once a second to once a minute.
LINGER_S = 120.0
_LINGER_LOOK_S = 0.1
#: Descriptors beside those of connections.
_OTHER_FILES = 256


class Office:
    """The place of the one server of a state folder; the next may take it when we let go."""

    def __init__(self, state_dir: Path) -> None:
        refuse_untrusted(private_folder(state_dir))  # scheduled maintenances are read from it
        self._file = os.open(state_dir / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def take(self) -> bool:
        """Whether the place was free and is ours now."""
        try:
            hold(self._file)
        except BlockingIOError:
            return False
        return True

    def leave(self) -> None:
        """Let go of it. Idempotent."""
        fcntl.flock(self._file, fcntl.LOCK_UN)

    def is_taken(self) -> bool:
        """Whether another process has it; for one that has let go."""
        return is_held(self._file)

    def close(self) -> None:
        """Forget it."""
        os.close(self._file)


@contextmanager
def sole_server(state_dir: Path) -> Iterator[Office]:
    """Be the server of a state folder. Raises EventError if another is."""
    office = Office(state_dir)
    try:
        if not office.take():
            raise EventError(f"events are served from {state_dir} already")
        yield office
    finally:
        office.close()


def is_served(state_dir: Path) -> bool:
    """Whether a server of this state folder lives, and does not mean to leave."""
    office = Office(state_dir)
    try:
        return office.is_taken()
    finally:
        office.close()


def serve(
    state_dir: Path,
    sockets: Sequence[socket.socket],
    directory: Directory,
    office: Office,
    *,
    shared: SharedStore | None = None,
    rate: int = REQUESTS_A_SECOND,
    ready: Callable[[], None] = lambda: None,
    beside: Callable[[], None] = lambda: None,
    until_eof_of: int | None = None,
) -> None:
    """Answer guests until TERM or INT, or for a while after ``until_eof_of`` (a descriptor) closes.

    That while is until all guests that have asked know the last change, or another server comes,
    or two minutes. ``beside`` is called once a second in a thread; ``ready`` once, when guests
    are answered. ``shared``: where hosts share their events; None: they are in ``state_dir``.
    """
    prepare_logs(state_dir)
    _allow_connections()
    desk = partial(Desk, state_dir, shared=shared)
    asyncio.run(_serve(desk, sockets, directory, office, rate, ready, beside, until_eof_of))


async def _serve(
    opened: Callable[[], Desk],
    sockets: Sequence[socket.socket],
    directory: Directory,
    office: Office,
    rate: int,
    ready: Callable[[], None],
    beside: Callable[[], None],
    until_eof_of: int | None,
) -> None:
    desk = opened()
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

    tasks = [asyncio.create_task(_look_beside(server, ready, beside))]
    if until_eof_of is not None:
        tasks.append(asyncio.create_task(_take_leave(server, desk, office, until_eof_of)))
    try:
        await server.serve(sockets=list(sockets))
    finally:
        for task in tasks:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
        desk.close()


async def _take_leave(server: uvicorn.Server, desk: Desk, office: Office, until: int) -> None:
    """The end of an event is the guests' signal to recover: they should not miss it."""
    loop = asyncio.get_running_loop()
    closed = loop.create_future()
    loop.add_reader(until, closed.set_result, None)
    await closed
    loop.remove_reader(until)
    office.leave()
    last_s = loop.time() + LINGER_S
    while not (desk.everybody_knows() or office.is_taken() or loop.time() > last_s):
        await asyncio.sleep(_LINGER_LOOK_S)
    server.should_exit = True


async def _look_beside(
    server: uvicorn.Server, ready: Callable[[], None], beside: Callable[[], None]
) -> None:
    while not server.started:
        await asyncio.sleep(0.01)
    ready()
    while True:
        try:
            await asyncio.to_thread(beside)
        except HarnessError as error:
            _log.warning("%s", error)  # a full disk, say; guests are answered all the same
        except Exception:  # noqa: BLE001  a bug; what is next is done all the same
            _log.exception("what goes on beside requests failed")
        await asyncio.sleep(_TICK_S)


def _allow_connections() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = CONNECTIONS + _OTHER_FILES
    limit = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
