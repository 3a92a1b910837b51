# disk-start KEY HEX(FOLDER): write blocks with fsync, a few a second: others need the disk too.
# disk-count: how many so far.  disk-wait COUNT SECONDS: the same, when there are so many, or later.
# disk-stop: "COUNT LOST TORN STALLED_NS PROBLEM" after reading them back.
import os
import time
from _thread import allocate_lock

from __main__ import background, commands, endings, pattern

BLOCK, MOST = 4096, 16384
disk = {"run": False, "count": 0, "stalled": 0, "problem": "-", "file": None}


class Event:  # as in threading, which is slow to import; one thread alone may set and clear it
    def __init__(self):
        self.gate, self.happened = allocate_lock(), False
        self.gate.acquire()  # shut until it has happened

    def set(self):
        if not self.happened:
            self.happened = True
            self.gate.release()

    def clear(self):
        if self.happened:
            self.gate.acquire()  # waits a moment for one that is just passing
            self.happened = False

    def wait(self, seconds):
        if self.gate.acquire(timeout=seconds):
            self.gate.release()
        return self.happened


done, hurry = Event(), Event()  # set by the writer; by the thread that answers
written = allocate_lock()  # taken before each wait for a block; only the writer releases it


def block(number):
    head = b"%016d " % number
    return head + pattern(disk["key"], number, BLOCK - len(head))


def wake():  # after what has changed: the thread that waits looks again when it has the lock
    if written.locked():
        written.release()


def disk_write():
    try:
        while disk["run"] and disk["count"] < MOST:
            began = time.monotonic()
            data = block(disk["count"])
            if os.write(disk["file"], data) != len(data):
                raise OSError("a short write")
            os.fsync(disk["file"])
            disk["stalled"] = max(disk["stalled"], time.monotonic() - began)
            disk["count"] += 1
            wake()
            hurry.wait(0.2)
    except OSError as error:
        disk["problem"] = str(error)
    done.set()
    wake()


def disk_type(folder):
    best, kind, folder = "", "", os.path.realpath(folder) + "/"
    with open("/proc/mounts") as mounts:
        for line in mounts:
            point, its = line.split()[1:3]
            point = point.rstrip("/") + "/"
            if folder.startswith(point) and len(point) >= len(best):
                best, kind = point, its
    return kind


def disk_start(key, folder):
    folder = bytes.fromhex(folder).decode()
    kind = disk_type(folder)
    if kind in ("tmpfs", "ramfs", "rootfs"):
        return "error: %s is in RAM (%s)" % (folder, kind)
    room = os.statvfs(folder)
    if room.f_bavail * room.f_frsize < 4 * BLOCK * MOST:
        return "error: %s is nearly full" % folder
    disk["key"], disk["path"] = bytes.fromhex(key), os.path.join(folder, ".harness-disk-" + key)
    disk["file"] = os.open(disk["path"], os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    disk["run"] = True
    background(disk_write)
    return "ok"


def disk_wait(count, seconds):
    count, until = int(count), time.monotonic() + float(seconds)
    hurry.set()
    while disk["count"] < count and not done.happened:
        if not written.acquire(timeout=max(0, until - time.monotonic())):
            break
    hurry.clear()
    return disk["count"]


def disk_remove():
    if disk["file"] is not None:
        disk["run"] = False
        hurry.set()
        done.wait(5)
        os.unlink(disk["path"])
        os.close(disk["file"])
        disk["file"] = None


def disk_stop():
    disk["run"] = False
    hurry.set()
    if not done.wait(20):
        return "error: a write does not end"
    lost = torn = 0
    if hasattr(os, "posix_fadvise"):  # from the disk, not from memory
        os.posix_fadvise(disk["file"], 0, 0, os.POSIX_FADV_DONTNEED)
    for number in range(disk["count"]):
        data = os.pread(disk["file"], BLOCK, number * BLOCK)
        if len(data) < BLOCK or not any(data):
            lost += 1
        elif data != block(number):
            torn += 1
    stalled = int(disk["stalled"] * 1000000000)
    count, problem = disk["count"], disk["problem"]
    disk_remove()
    return "%d %d %d %d %s" % (count, lost, torn, stalled, problem)


commands["disk-start"] = disk_start
commands["disk-count"] = lambda: disk["count"]
commands["disk-wait"] = disk_wait
commands["disk-stop"] = disk_stop
endings.append(disk_remove)
