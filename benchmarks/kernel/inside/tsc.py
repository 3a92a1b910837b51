"""The CPU's time stamp counter, which goes on over a kexec, and the host's time by it."""

import ctypes
import mmap
import time

#: rdtsc; shl rdx, 32; or rax, rdx; ret
_RDTSC = bytes.fromhex("0f3148c1e2204809d0c3")
_PAGE = mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
_PAGE.write(_RDTSC)
rdtsc = ctypes.CFUNCTYPE(ctypes.c_uint64)(ctypes.addressof(ctypes.c_char.from_buffer(_PAGE)))
_ATTEMPTS = 20


def pair(clock: int = time.CLOCK_REALTIME) -> tuple[int, int, int]:
    """Counter and a clock (ns) at the same instant, and how wide that instant is (counts)."""
    best = (0, 0, 1 << 62)
    for _ in range(_ATTEMPTS):
        before = rdtsc()
        now_ns = time.clock_gettime_ns(clock)
        after = rdtsc()
        best = min(best, ((before + after) // 2, now_ns, after - before), key=lambda one: one[2])
    return best


def realtime_ns(then: tuple[int, int], per_ns: float, counter: int) -> int:
    """The host's time at ``counter``, by a pair of before and the counter's own pace."""
    return then[1] + round((counter - then[0]) / per_ns)
