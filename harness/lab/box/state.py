"""The box that is up, written down so that another process finds it and ends it, and no other."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from harness.core.errors import LabError, UsageError
from harness.core.files import private_folder, write_atomically
from harness.core.identity import boot_id
from harness.core.paths import state_dir
from harness.lab.detached import Detached

USER = "root"
HOST = "127.0.0.1"


@dataclass(frozen=True)
class BoxState:
    """A box: what it boots from, how to get in, and its QEMU while it has one."""

    image: str
    """Folder of the image that its disk is an overlay of."""
    accelerator: str
    cpus: int
    memory_mib: int
    port: int
    """Of SSH, on loopback."""
    boot_id: str
    pid: int | None = None
    start_ticks: int | None = None

    @property
    def process(self) -> Detached | None:
        """Its QEMU, whether it lives or not; None if this boot of the machine has none."""
        if self.pid is None or self.start_ticks is None or self.boot_id != boot_id():
            return None
        return Detached(self.pid, self.start_ticks)


def box_dir() -> Path:
    """The box's private folder: keys, disk, console."""
    return state_dir() / "box"


def identity_file() -> Path:
    """The private key that opens the box."""
    return box_dir() / "id_ed25519"


def known_hosts() -> Path:
    """The pinned host key."""
    return box_dir() / "known_hosts"


def serial_log() -> Path:
    """What the box's console said."""
    return box_dir() / "serial.log"


def qemu_log() -> Path:
    """What QEMU itself said."""
    return box_dir() / "qemu.log"


def _state_file() -> Path:
    return box_dir() / "box.json"


@contextmanager
def claimed() -> Iterator[None]:
    """Hold the box for the time of a ``with``. Raises UsageError if another harness does."""
    private_folder(state_dir())
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
    descriptor = os.open(state_dir() / "box.lock", flags, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError as error:
        raise UsageError("another harness is at work on the box just now") from error
    finally:
        os.close(descriptor)


def save(box: BoxState) -> None:
    """Write the state down."""
    write_atomically(_state_file(), json.dumps(asdict(box), indent=1))


def load() -> BoxState | None:
    """The box that was written down, or None. Raises LabError for what is no box's state."""
    try:
        return BoxState(**json.loads(_state_file().read_text()))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError) as error:
        raise LabError(
            f"{_state_file()} is no box's state: {error}",
            hint="end its QEMU by hand, then remove the file",
        ) from error


def forget() -> None:
    """Remove the box's folder, its disk with it."""
    shutil.rmtree(box_dir(), ignore_errors=True)
