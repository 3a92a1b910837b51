"""Free memory that stays, seen in a process of its own that may have no more."""

from __future__ import annotations

import subprocess
import sys

import pytest

from harness.core.spare_memory import spare

#: It wants a megabyte in a thread, in blocks that malloc would map one by one if it might.
PROGRAM = """
import resource, sys, threading
from harness.core.spare_memory import keep_one_heap, spare
keeps, spares = "k" in sys.argv[1], "s" in sys.argv[1]
go, said = threading.Event(), []
def work():
    go.wait()
    try:
        blocks = [bytearray(1 << 18) for _ in range(4)]
        said.append("had")
    except MemoryError:
        said.append("none")
thread = threading.Thread(target=work)
if keeps:
    keep_one_heap()
    thread.start()
if spares:
    spare(2 << 20)
with open("/proc/self/statm") as file:
    size = int(file.read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (size, size))
go.set()
thread.join() if keeps else work()
print(*said)
"""


#: Says how many heaps there are after threads that were there at once have allocated something.
HEAPS = """
import ctypes, sys, threading
from harness.core.spare_memory import share_one_heap
if sys.argv[1] == "shared":
    share_one_heap()
all_there = threading.Barrier(4)
def work():
    all_there.wait()
    block = bytearray(50_000)
    all_there.wait()
threads = [threading.Thread(target=work) for _ in range(4)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
libc = ctypes.CDLL(None)
libc.fdopen.restype = ctypes.c_void_p
libc.malloc_info.argtypes = [ctypes.c_int, ctypes.c_void_p]
libc.fflush.argtypes = [ctypes.c_void_p]
out = libc.fdopen(1, b"w")
libc.malloc_info(0, out)
libc.fflush(out)
"""


@pytest.mark.parametrize(("heap", "only_one"), [("shared", True), ("theirs", False)])
def test_threads_allocate_from_one_heap(heap, only_one):
    """By what glibc tells of itself, malloc_info(3)."""
    done = subprocess.run(
        [sys.executable, "-c", HEAPS, heap], capture_output=True, text=True, timeout=60, check=True
    )
    assert (done.stdout.count("<heap nr=") == 1) is only_one


@pytest.mark.parametrize(("parts", "said"), [("ks", "had"), ("k", "none"), ("s", "none")])
def test_a_thread_has_what_was_kept_when_there_is_no_more(parts, said):
    """And would not if it was only kept, or only spared and given back to the system at once."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, parts], capture_output=True, text=True, timeout=60
    )
    assert done.stdout == f"{said}\n", done.stderr


def test_what_is_not_to_be_had_is_an_error():
    """Before anything relies on it."""
    with pytest.raises(MemoryError, match="bytes are not to be had"):
        spare(1 << 62)
