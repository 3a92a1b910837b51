"""One maintenance of a host at a time: a lock that names its holder.

A lab box has several users, so the lock lies where all of them can see it. The kernel releases it
when the holder dies, however it dies. The file says who holds it; what it says counts only while
the lock is held. For a remote libvirt the lock is one of this machine: it keeps people on one
runner apart, not people on two.
"""

from __future__ import annotations

import fcntl
import ipaddress
import os
import platform
import stat
import struct
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

from pydantic import TypeAdapter, ValidationError

from harness.core.background import start_in_background
from harness.core.durations import spoken
from harness.core.errors import HostBusy, InfrastructureError
from harness.core.file_names import file_name
from harness.core.identity import who_am_i
from harness.core.pasteable import command
from harness.core.process_state import python_module, settle_process
from harness.core.timebase import NS_PER_S, SYSTEM_CLOCK, Clock

_FOLDER_VARIABLE = "HARNESS_LOCK_DIR"
_SYSTEM_FOLDER = Path("/run/lock")
_READ_BYTES = 1 << 16
#: So many state folders are noted in a lock.
_NOTED = 8
_SSH_PORT = 22
_FLOCK = "@hhqqi"
"""``struct flock``: type, whence, start, length, pid."""
_WHOLE_FILE = struct.pack(_FLOCK, fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)


@dataclass(frozen=True)
class Holder:
    """Who holds a host, since when and what for; stamps are CLOCK_REALTIME."""

    user: str
    pid: int
    start_ticks: int
    boot_id: str
    purpose: str
    since_ns: int
    run_id: str | None = None
    until_ns: int | None = None
    """When it lets go by itself, if it does."""
    state_dirs: tuple[str, ...] = ()
    """Where runs of this host have been kept, newest first: for ``harness recover``."""

    def describe(self, now_ns: int) -> str:
        """``alice has held it for 5 min: flashing the BMC (pid 123)``."""
        what = f"{self.purpose}, run {self.run_id}" if self.run_id else self.purpose
        said = f"{self.user} has held it for {spoken((now_ns - self.since_ns) / NS_PER_S)}: {what}"
        if self.until_ns is not None:
            said += f", for another {spoken((self.until_ns - now_ns) / NS_PER_S)}"
        return f"{said} (pid {self.pid})"


@dataclass(frozen=True)
class _Note:
    """What stays in the lock when its holder has let go."""

    state_dirs: tuple[str, ...] = ()


_HOLDER = TypeAdapter(Holder)
_NOTE = TypeAdapter(_Note)


def lock_file(uri: str) -> Path:
    """The lock of the host that ``uri`` leads to; every way to one host has the same."""
    parts = urlsplit(uri)
    driver = parts.scheme.partition("+")[0]
    where = f"{driver}-{_host_of(parts)}"
    folder = os.environ.get(_FOLDER_VARIABLE)
    base = _SYSTEM_FOLDER if _SYSTEM_FOLDER.is_dir() else Path(tempfile.gettempdir())
    return Path(folder or base) / f"harness-{file_name(where, ascii_only=True)}.lock"


def _host_of(parts: SplitResult) -> str:
    """Return ``localhost`` for every name of this machine; a port may be a way to another one."""
    host = (parts.hostname or "localhost").rstrip(".")
    if parts.port not in (None, _SSH_PORT):
        return host
    own = platform.node().lower()
    try:
        local = ipaddress.ip_address(host).is_loopback
    except ValueError:
        local = host in ("localhost", own, own.partition(".")[0])
    return "localhost" if local else host


@contextmanager
def host_lock(
    uri: str,
    purpose: str,
    run_id: str | None = None,
    until_ns: int | None = None,
    clock: Clock = SYSTEM_CLOCK,
    state_dir: Path | None = None,
) -> Iterator[Holder]:
    """Hold a host for the time of a ``with``.

    ``state_dir`` is noted in the lock, beside those of earlier holders: who comes after a crash
    finds the run there.

    Raises HostBusy with the holder's name, run id and age if another process does, and
    InfrastructureError if the lock cannot be made.
    """
    path = lock_file(uri)
    descriptor = _open(path)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise _busy(uri, _read(descriptor), clock) from error
        with suppress(OSError):  # it is for those who look; the lock is the one above
            fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, _WHOLE_FILE)
        me = Holder(
            **who_am_i(),
            purpose=purpose,
            since_ns=clock.realtime_ns(),
            run_id=run_id,
            until_ns=until_ns,
            state_dirs=_with_earlier(state_dir, descriptor),
        )
        _write(descriptor, _HOLDER.dump_json(me))
        yield me
        _write(descriptor, _NOTE.dump_json(_Note(me.state_dirs)) if me.state_dirs else b"")
    finally:
        os.close(descriptor)


def holder(uri: str) -> Holder | None:
    """Return who holds the host now; None if the host is free.

    Nothing is locked, however briefly: a run that comes at that moment would be refused.
    """
    path = lock_file(uri)
    if not path.exists():
        return None
    descriptor = _open(path)
    try:
        found = fcntl.fcntl(descriptor, fcntl.F_OFD_GETLK, _WHOLE_FILE)
        kind, *_ = struct.unpack(_FLOCK, found)
        return None if kind == fcntl.F_UNLCK else _read(descriptor)
    finally:
        os.close(descriptor)


def holding(uri: str, clock: Clock = SYSTEM_CLOCK) -> str:
    """Return who holds the host, and what ends that; "" if it is free or cannot be looked at."""
    with suppress(InfrastructureError):
        if (found := holder(uri)) is not None:
            who = found.describe(clock.realtime_ns())
            return f"{who}; wait for it, or {_way_to_end(uri, found)}"
    return ""


def noted_state_dirs(uri: str) -> tuple[Path, ...]:
    """Return the state folders that the lock of a host has noted, newest first.

    They are only data, and any user may have written them.
    """
    try:
        descriptor = os.open(
            lock_file(uri), os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
        )
    except OSError:
        return ()
    try:
        return tuple(Path(one) for one in _noted(descriptor))
    finally:
        os.close(descriptor)


def really_holds(uri: str, pid: int) -> bool:
    """Whether the kernel says so too: the file must not make harness signal another process."""
    status = lock_file(uri).stat()
    place = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}:{status.st_ino}"
    lines = (line.split() for line in Path("/proc/locks").read_text().splitlines())
    return any(line[1] == "FLOCK" and line[4:6] == [str(pid), place] for line in lines)


def hold_in_background(uri: str, purpose: str, seconds: float) -> Holder:
    """Hold a host for ``seconds`` by a process of its own that outlives this one and its terminal.

    Raises what ``host_lock`` raises.
    """
    if (other := holder(uri)) is not None:
        raise _busy(uri, other, SYSTEM_CLOCK)
    told, tell = os.pipe()
    try:
        words = (uri, purpose, repr(seconds), str(tell))
        command = python_module("harness.host.lock", *words)
        start_in_background(command, Path(os.devnull), keep=[tell])
    except OSError as error:
        os.close(told)
        raise InfrastructureError(f"no process can be started: {error.strerror}") from error
    finally:
        os.close(tell)
    with open(told) as pipe:
        said = pipe.read()  # ends when it holds the lock, or has failed
    found = holder(uri)
    if said or found is None:
        raise HostBusy(said or f"the lock of {uri} could not be held")
    return found


def main(uri: str, purpose: str, seconds: str, descriptor: str) -> None:
    """What the process of ``hold_in_background`` does."""
    settle_process()
    tell = int(descriptor)
    until_ns = SYSTEM_CLOCK.realtime_ns() + round(float(seconds) * NS_PER_S)
    try:
        with host_lock(uri, purpose, until_ns=until_ns):
            os.close(tell)
            SYSTEM_CLOCK.sleep(float(seconds))
    except InfrastructureError as error:
        os.write(tell, str(error).encode())


def _open(path: Path) -> int:
    """Any user may lock it. Not made through a link that another user laid.

    What else lies there, a FIFO say, is locked as well as a file; it only cannot name the holder.
    """
    flags = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    try:
        try:
            return os.open(path, flags)  # without O_CREAT: fs.protected_regular refuses that here
        except FileNotFoundError:
            descriptor = os.open(path, flags | os.O_CREAT, 0o666)
            os.fchmod(descriptor, 0o666)  # whatever the umask says
            return descriptor
    except OSError as error:
        raise InfrastructureError(
            f"cannot open the lock {path}: {error.strerror}; nothing was paused",
            hint=f"remove it if it is not a file of harness, or set {_FOLDER_VARIABLE}",
        ) from error


def _busy(uri: str, found: Holder | None, clock: Clock) -> HostBusy:
    who = found.describe(clock.realtime_ns()) if found else "its holder has not said who it is"
    return HostBusy(f"{uri} is taken: {who}", hint=f"wait for it, or {_way_to_end(uri, found)}")


def _way_to_end(uri: str, found: Holder | None) -> str:
    """Return the command that ends what holds the host; any user may have written who that is."""
    try:
        is_theirs = found is not None and really_holds(uri, found.pid)
    except OSError:
        is_theirs = False
    if found is None or not is_theirs:
        return "talk to them: harness lock"
    if found.until_ns is not None:
        return f"end the reservation: {command('harness', 'lock', '--uri', uri, '--release')}"
    return f"interrupt the run, which resumes its guests: kill -INT {found.pid}"


def _write(descriptor: int, text: bytes) -> None:
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, text, 0)


def _with_earlier(state_dir: Path | None, descriptor: int) -> tuple[str, ...]:
    ours = [str(state_dir.absolute())] if state_dir is not None else []
    return tuple(dict.fromkeys([*ours, *_noted(descriptor)]))[:_NOTED]


def _noted(descriptor: int) -> tuple[str, ...]:
    try:
        found = _NOTE.validate_json(os.pread(descriptor, _READ_BYTES, 0)).state_dirs
    except (OSError, ValidationError):
        return ()
    return tuple(one for one in found if one.startswith("/") and "\0" not in one)


def _read(descriptor: int) -> Holder | None:
    """What the file says; it is only data, and any user may have written it."""
    try:
        return _HOLDER.validate_json(os.pread(descriptor, _READ_BYTES, 0))
    except (OSError, ValidationError):
        return None


if __name__ == "__main__":
    main(*sys.argv[1:])
