"""The lab that is up, written down so that another process can find it and take it down."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from harness.core import file_locks
from harness.core.errors import LabError, UsageError
from harness.core.files import private_folder, write_atomically
from harness.core.identity import boot_id
from harness.core.paths import state_dir
from harness.lab.daemon import Daemon

USER = "root"


@dataclass(frozen=True)
class LabGuest:
    """One guest of a lab."""

    name: str
    uuid: str
    address: str
    image: str
    update_domain: str
    availability_set: str | None
    serial_log: str


@dataclass(frozen=True)
class LabState:
    """A lab: what must be removed again, and how to get in."""

    lab_id: str
    uri: str
    accelerator: str
    network: str
    run_dir: str
    """Disks and consoles, where QEMU's own user can read them."""
    place: str
    """Boot and namespace it was made in; elsewhere its guests cannot be reached."""
    borrowed: bool = False
    """The libvirtd was there before the lab and stays after it."""
    guests: tuple[LabGuest, ...] = ()
    daemons: tuple[Daemon, ...] = ()
    ram_mount: str | None = None
    """Where the lab has mounted a tmpfs for the RAM of resident guests."""

    @property
    def identity_file(self) -> Path:
        """The private key that opens every guest."""
        return lab_dir() / "id_ed25519"

    @property
    def known_hosts(self) -> Path:
        """The pinned host keys."""
        return lab_dir() / "known_hosts"

    @property
    def config_file(self) -> Path:
        """A harness.toml for this lab."""
        return lab_dir() / "harness.toml"


def lab_dir() -> Path:
    """The lab's private folder."""
    return state_dir() / "lab"


def _state_file() -> Path:
    return lab_dir() / "lab.json"


def lab_config_file() -> Path | None:
    """The configuration of the lab that is up, if one is."""
    file = lab_dir() / "harness.toml"
    # os.path: a folder that we may not search holds no lab of this user.
    return file if os.path.exists(file) and os.path.exists(_state_file()) else None


def is_booting() -> bool:
    """Return whether a lab is being brought up: it is written down, and not configured yet."""
    return os.path.exists(_state_file()) and lab_config_file() is None and is_held()


def this_place() -> str:
    """This boot of the machine and this network namespace of it."""
    return f"{boot_id()} {os.readlink('/proc/self/ns/net')}"


def same_boot(place: str) -> bool:
    """Whether the machine has been up all the time since ``place`` was noted."""
    return place.startswith(boot_id())


@contextmanager
def claimed() -> Iterator[int]:
    """Hold the lab's lock for the time of a ``with``; the descriptor may be handed on.

    The lab's own libvirtd inherits it, so that the lock is held for as long as that lives, and
    is seen from every namespace. Raises UsageError if another process holds it already.
    """
    private_folder(lab_dir())
    descriptor = os.open(_lock_file(), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        file_locks.hold(descriptor)
    except BlockingIOError as error:
        os.close(descriptor)
        raise UsageError("another harness is bringing a lab up just now") from error
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def is_held() -> bool:
    """Whether the lab's libvirtd, or a harness that brings a lab up, lives in any namespace."""
    try:
        with open(_lock_file()) as file:
            return file_locks.is_held(file.fileno())
    except FileNotFoundError:
        return False


def _lock_file() -> Path:
    return lab_dir() / "lock"


def save(state: LabState) -> None:
    """Write the state down. Written before anything exists, so that nothing is ever forgotten."""
    private_folder(lab_dir())
    write_atomically(_state_file(), json.dumps(asdict(state), indent=1))


def load() -> LabState | None:
    """The lab that was written down, or None."""
    try:
        raw: dict[str, Any] = json.loads(_state_file().read_text())
        guests = tuple(LabGuest(**guest) for guest in raw.pop("guests"))
        daemons = tuple(Daemon(**daemon) for daemon in raw.pop("daemons"))
        return LabState(**raw, guests=guests, daemons=daemons)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise LabError(
            f"{_state_file()} is no lab's state: {error}",
            hint="written by another version? end its guests by hand, then remove the file",
        ) from error


def write_config(state: LabState) -> None:
    """The lab's harness.toml: `harness run` works on it as on any guests."""
    import tomli_w  # here, so that a configuration is found without the extra [lab]

    guests = [
        {
            "name": guest.name,
            "address": guest.address,
            "update_domain": guest.update_domain,
            **({"availability_set": guest.availability_set} if guest.availability_set else {}),
        }
        for guest in state.guests
    ]
    ssh = {"user": USER, "identity_file": "id_ed25519", "known_hosts": "known_hosts"}
    document = {"uri": state.uri, "ssh": ssh, "guest": guests}
    state.config_file.write_text(tomli_w.dumps(document))


def write_keys(state: LabState, private_key: str, host_keys: Sequence[tuple[str, str]]) -> None:
    """The user's key, and ``(address, public host key)`` of every guest."""
    state.identity_file.touch(mode=0o600)
    state.identity_file.write_text(private_key)
    state.known_hosts.write_text("".join(f"{address} {key}\n" for address, key in host_keys))


def forget() -> None:
    """Remove the lab's state folder."""
    shutil.rmtree(lab_dir(), ignore_errors=True)
