"""A TCP way that takes its time: a forwarder on loopback that delays each direction."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

_T = TypeVar("_T")


@contextmanager
def slow_way(address: str, port: int, there_s: float, back_s: float) -> Iterator[int]:
    """Forward a port of 127.0.0.1 (yielded) to ``address``, each direction late by so much."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    handlers: set[asyncio.Task[Any]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if task := asyncio.current_task():
            handlers.add(task)
        onward_reader, onward_writer = await asyncio.open_connection(address, port)
        try:
            await asyncio.gather(
                _forward(reader, onward_writer, there_s), _forward(onward_reader, writer, back_s)
            )
        except (ConnectionError, asyncio.CancelledError):
            pass
        finally:
            for each in (writer, onward_writer):
                each.close()

    async def stop() -> None:
        server.close()
        for task in handlers:
            task.cancel()
        await asyncio.gather(*handlers, return_exceptions=True)
        await server.wait_closed()

    def here(coroutine: Coroutine[Any, Any, _T]) -> _T:
        return asyncio.run_coroutine_threadsafe(coroutine, loop).result(10)

    server = here(asyncio.start_server(serve, "127.0.0.1", 0))
    try:
        forwarded: int = server.sockets[0].getsockname()[1]
        yield forwarded
    finally:
        here(stop())
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


async def _forward(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, delay_s: float
) -> None:
    """Every piece arrives ``delay_s`` late; pieces do not wait for one another."""
    loop = asyncio.get_running_loop()
    while piece := await reader.read(65536):
        loop.call_later(delay_s, writer.write, piece)
    await asyncio.sleep(delay_s)
    writer.close()
