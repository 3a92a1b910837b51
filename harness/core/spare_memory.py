"""The heap that threads share, and memory on it that is there when no more is to be had.

What a program cannot do without memory it has to have beforehand, and not all of it is ours: where
malloc fails, libraries below libvirt's client do not raise an error. libtirpc (1.3.3) writes
through the null pointer, GLib aborts, and the process is gone with whatever it was about to do.
"""

from __future__ import annotations

import ctypes

#: Parameters of mallopt(3), in glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_MAX, _M_ARENA_MAX = -1, -4, -8
_NEVER = 2**31 - 1


def share_one_heap() -> None:
    """Have all threads of this process allocate from one heap.

    glibc gives threads up to eight heaps for each CPU, and memory that is free in one cannot be
    used from another. Separate heaps help threads that allocate at the same moment, but only one
    thread at a time runs Python.

    Call it before the first thread is started. Does nothing where malloc is not glibc's.
    """
    _set(_M_ARENA_MAX, 1)


def keep_one_heap() -> None:
    """Have all threads of this process allocate from one heap, which never shrinks.

    Only then is what was free once free for other code. Called as ``share_one_heap`` is.
    """
    share_one_heap()
    _set(_M_MMAP_MAX, 0)
    _set(_M_TRIM_THRESHOLD, _NEVER)


def _set(parameter: int, value: int) -> None:
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(parameter, value)


def spare(size_bytes: int) -> None:
    """Have ``size_bytes`` in one piece free on the heap, and in RAM. Raises MemoryError.

    Later calls make sure of it again: what is free may have been used, or broken up, meanwhile.
    """
    libc = ctypes.CDLL(None)
    libc.malloc.restype = ctypes.c_void_p
    libc.malloc.argtypes = [ctypes.c_size_t]
    libc.free.argtypes = [ctypes.c_void_p]
    block = libc.malloc(size_bytes)
    if block is None:
        raise MemoryError(f"{size_bytes} bytes are not to be had")
    ctypes.memset(block, 1, size_bytes)
    libc.free(block)
