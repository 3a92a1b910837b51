"""The lab that is up, written down so that another process can find it and take it down."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import tomli_w

from harness.errors import LabError
from harness.lab.daemon import Daemon
from harness.paths import state_dir

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
    """Disks and logs, where QEMU's own user can read them."""
    guests: tuple[LabGuest, ...] = ()
    daemons: tuple[Daemon, ...] = ()

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
    return file if file.exists() and _state_file().exists() else None


def save(state: LabState) -> None:
    """Write the state down. Written before anything exists, so that nothing is ever forgotten."""
    lab_dir().mkdir(mode=0o700, parents=True, exist_ok=True)
    _state_file().write_text(json.dumps(asdict(state), indent=1))


def load() -> LabState | None:
    """The lab that was written down, or None."""
    try:
        raw: dict[str, Any] = json.loads(_state_file().read_text())
    except FileNotFoundError:
        return None
    except (OSError, json.JSONDecodeError) as error:
        raise LabError(f"cannot read {_state_file()}: {error}") from error
    guests = tuple(LabGuest(**guest) for guest in raw.pop("guests"))
    daemons = tuple(Daemon(**daemon) for daemon in raw.pop("daemons"))
    return LabState(**raw, guests=guests, daemons=daemons)


def write_config(state: LabState) -> None:
    """The lab's harness.toml: `harness run` works on it as on anybody's guests."""
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
    """Remove every file of the lab from the state folder."""
    for name in ("lab.json", "harness.toml", "id_ed25519", "known_hosts"):
        (lab_dir() / name).unlink(missing_ok=True)
