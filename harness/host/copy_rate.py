"""How fast this host copies memory as libvirt does when it saves a guest: through a pipe to a file.

Measured in memory of this process alone; nothing is written to any file system.
"""

from __future__ import annotations

import os
import threading
from contextlib import ExitStack

from harness.core.timebase import NS_PER_S, SYSTEM_CLOCK, Clock

#: libvirt's own helper reads as much at once.
_CHUNK_BYTES = 1 << 20
_SAMPLE_BYTES = 64 << 20


def copy_rate(clock: Clock = SYSTEM_CLOCK, size: int = _SAMPLE_BYTES) -> float:
    """Return bytes a second. Raises OSError where there is no memory for it."""
    with ExitStack() as stack:
        file = os.memfd_create("copy-rate", os.MFD_CLOEXEC)
        stack.callback(os.close, file)
        reader, writer = os.pipe2(os.O_CLOEXEC)
        stack.callback(os.close, reader)
        began_ns = clock.monotonic_ns()
        thread = threading.Thread(target=_fill, args=(writer, size), daemon=True)
        thread.start()
        while chunk := os.read(reader, _CHUNK_BYTES):
            _write(file, chunk)
        thread.join()
        return size * NS_PER_S / max(1, clock.monotonic_ns() - began_ns)


def _fill(writer: int, size: int) -> None:
    try:
        chunk = bytes(_CHUNK_BYTES)
        for _ in range(size // _CHUNK_BYTES):
            _write(writer, chunk)
    finally:
        os.close(writer)


def _write(file: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(file, view) :]
