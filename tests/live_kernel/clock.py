"""The emulated host's clock, against this machine's: a stamp that the host knows nothing of."""

from __future__ import annotations

import subprocess
import time

from tests.live_kernel.machine import Machine

#: Whole seconds; the next kernel reads its time there.
MOVE_RTC = """
import datetime, fcntl, struct, sys
READ, SET, SHAPE = 0x80247009, 0x4024700A, "9i"
with open("/dev/rtc0", "rb") as rtc:
    s, m, h, day, month, year, *_ = struct.unpack(SHAPE, fcntl.ioctl(rtc, READ, bytes(36)))
    was = datetime.datetime(year + 1900, month + 1, day, h, m, s)
    to = was + datetime.timedelta(seconds=int(sys.argv[1]))
    words = (to.second, to.minute, to.hour, to.day, to.month - 1, to.year - 1900, 0, 0, 0)
    fcntl.ioctl(rtc, SET, struct.pack(SHAPE, *words))
"""
_ANSWER = "python3 -uc 'import sys, time\nfor _ in sys.stdin: print(time.time())'"
_ASKED = 30


def ahead_s(host: Machine) -> tuple[float, float]:
    """By how much the host's clock is ahead of this machine's, and to what that is known."""
    words = host.ssh_words(_ANSWER)
    found = []
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as asked:
        assert asked.stdin is not None
        assert asked.stdout is not None
        for _ in range(_ASKED):
            began_s = time.time()
            asked.stdin.write(b"\n")
            asked.stdin.flush()
            there_s = float(asked.stdout.readline())
            ended_s = time.time()
            found.append(((ended_s - began_s) / 2, there_s - (began_s + ended_s) / 2))
        asked.stdin.close()
    known_s, ahead = min(found)
    return ahead, known_s
