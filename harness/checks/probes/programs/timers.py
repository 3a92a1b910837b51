# timers-start MS: two periodic timers.  timers-read: "FIRED LATE_NS BURST REALTIME_BURST", all but
# the first since timers-mark: what was late while we started is no fault of the pause. A run may be
# quicker than the timer: timers-read waits for the first, for an interval longer than it may take.
# units-ask: have systemd asked in the background.  units: what it said, in hexadecimal; or "none".
import ctypes
import os
import struct
import time

from __main__ import background, commands


class Timespec(ctypes.Structure):
    _fields_ = [("seconds", ctypes.c_long), ("fraction", ctypes.c_long)]


class Period(ctypes.Structure):  # struct itimerspec
    _fields_ = [("interval", Timespec), ("first", Timespec)]


libc = ctypes.CDLL(None, use_errno=True)
ticks = {"fired": 0, "late": 0, "burst": 0, "realtime": 0, "due": 0, "interval": 0}


def timers_mark():
    ticks.update(late=0, burst=0, realtime=0)
    return "ok"


def timers_read():
    until = ticks["due"] + ticks["interval"]
    while not ticks["fired"] and time.clock_gettime_ns(time.CLOCK_MONOTONIC) < until:
        time.sleep(0.01)
    overdue = time.clock_gettime_ns(time.CLOCK_MONOTONIC) - ticks["due"]
    ticks["late"] = max(ticks["late"], overdue)
    return "%(fired)d %(late)d %(burst)d %(realtime)d" % ticks


def periodic(clock, interval):
    timer = libc.timerfd_create(clock, 0)
    start = time.clock_gettime_ns(clock) + interval
    period = Period(Timespec(0, interval), Timespec(*divmod(start, 1000000000)))
    if timer < 0 or libc.timerfd_settime(timer, 1, ctypes.byref(period), None) < 0:
        raise OSError(ctypes.get_errno(), "no timerfd")
    return timer, start


def count_monotonic(timer, interval):
    while True:
        fired = struct.unpack("=Q", os.read(timer, 8))[0]
        late = time.clock_gettime_ns(time.CLOCK_MONOTONIC) - ticks["due"]
        ticks["due"] += fired * interval
        ticks["fired"] += fired
        ticks["late"] = max(ticks["late"], late)
        ticks["burst"] = max(ticks["burst"], fired)


def count_realtime(timer):
    while True:
        fired = struct.unpack("=Q", os.read(timer, 8))[0]
        ticks["realtime"] = max(ticks["realtime"], fired)


def timers_start(milliseconds):
    ticks["interval"] = interval = int(milliseconds) * 1000000
    timer, ticks["due"] = periodic(time.CLOCK_MONOTONIC, interval)
    background(count_monotonic, timer, interval)
    background(count_realtime, periodic(time.CLOCK_REALTIME, interval)[0])
    return "ok"


commands["timers-start"] = timers_start
commands["timers-mark"] = timers_mark
commands["timers-read"] = timers_read
units = {"pipe": None}


def units_ask():
    if not os.path.isdir("/run/systemd/system"):
        return "none"
    units["pipe"], theirs = os.pipe()
    if os.fork() == 0:
        try:
            os.dup2(theirs, 1)
            os.dup2(os.open(os.devnull, os.O_RDWR), 0)
            show = ["systemctl", "show", "--property=Id,ActiveState,LastTriggerUSec", "*.timer"]
            os.execvp(show[0], show)
        finally:
            os._exit(127)
    os.close(theirs)
    return "ok"


def units_told():
    said = b""
    while units["pipe"] is not None:
        more = os.read(units["pipe"], 65536)
        said += more
        if not more:
            os.close(units["pipe"])
            units["pipe"] = None
            os.wait()
    return said.hex() or "none"


commands["units-ask"] = units_ask
commands["units"] = units_told
