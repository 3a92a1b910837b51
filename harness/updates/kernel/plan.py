"""The thaw plan: what the next kernel brings guests back by. Typed, versioned JSON in one file.

It is on the disk before the first guest is paused, lies where both kernels find it, and that it is
there says that the region holds guests (:mod:`harness.host.region.handover`). It is the journal
that tells which of them are still to be brought back.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from harness.core.errors import InfrastructureError
from harness.core.files import public_folder, write_atomically
from harness.host.parking import Parking

VERSION = 1


#: Where guests' RAM is while no kernel runs that has started them.
DAX, LUO = "dax", "luo"
#: What has the program that goes by a plan look whether it could begin, and change nothing.
CHECK = "--check"


@dataclass(frozen=True)
class Preserved:
    """One file of a guest's RAM that has no name, as the next kernel finds it."""

    uuid: str
    name: str
    """Of the file, in the folder of an instance."""
    token: int
    """Its number in the session."""
    size: int
    """Bytes."""
    user: int
    group: int
    """Whose it is: those of its QEMU."""


@dataclass(frozen=True)
class ThawPlan:
    """Everything that does not change any more once guests are paused."""

    run_id: str
    folder: str
    """The run folder: the journal is there."""
    uri: str
    boot_id: str
    """Of the boot that hands over."""
    release: str
    """Of the kernel that is to bring the guests back."""
    magic: str
    """What the page in the region says."""
    region_start: int
    region_size: int
    """Where the region is in memory, and how large; bytes. Of ``dax`` alone."""
    ram_folder: str
    """Where it is mounted: libvirt's memory backing folder."""
    guests: tuple[Parking, ...]
    """Who is held, and what brings each back."""
    resident: str = DAX
    """``dax``: RAM is in files of the region; ``luo``: it is preserved in a session."""
    session: str = ""
    """Its name; only the run that has made it knows it."""
    preserved: tuple[Preserved, ...] = ()
    """What is in it."""
    ram_options: str = ""
    """By which the folder is a tmpfs again."""
    bridges: tuple[str, ...] = ()
    """What their NICs are on, where no network of libvirt's makes it."""
    networks: Mapping[str, str] = field(default_factory=dict)
    """Networks of libvirt's that they are on: name → description."""
    chains: Mapping[str, str] = field(default_factory=dict)
    """Of the firewall, those that these networks take: program → what it is fed."""
    modules: tuple[str, ...] = ()
    """Of the kernel, beside those of the region."""
    known: Mapping[str, str] = field(default_factory=dict)
    """Entries of libvirt's cache, as they are to be under that kernel, by file name."""
    emulators: Mapping[str, str] = field(default_factory=dict)
    """What their QEMU is, and which machine it makes: emulator → machine."""
    drivers: tuple[str, ...] = ()
    """Of libvirt, those that its guests need; none: all that are there."""
    confined: bool = False
    """AppArmor confines guests."""
    limit_s: float = 120.0
    """For how long the guests' return may hold up the boot."""

    def write(self, path: Path) -> None:
        """Write it, and return when it is on the disk, name and all. Raises InfrastructureError."""
        public_folder(path.parent)
        said = {"version": VERSION, **asdict(self)}
        for guest in said["guests"]:
            guest.pop("process")  # of this boot
        write_atomically(path, json.dumps(said, indent=1) + "\n")


def read(path: Path) -> ThawPlan:
    """Read a plan. Raises InfrastructureError for one that is not whole, or of another version.

    Nothing is guessed: a guest that is brought back wrongly is lost.
    """
    try:
        said = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise InfrastructureError(f"{path}: {getattr(error, 'strerror', None) or error}") from error
    found = said.get("version") if isinstance(said, dict) else None
    if found != VERSION:
        raise InfrastructureError(
            f"{path}: its version is {found!r}, and only {VERSION} is known",
            hint="the harness that has written it can read it",
        )
    try:
        return ThawPlan(**_checked(ThawPlan, said))
    except (TypeError, KeyError) as error:
        raise InfrastructureError(f"{path} is damaged: {error}") from error


def _checked(kind: type, said: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a dataclass, each of its type. Raises TypeError or KeyError."""
    values: dict[str, Any] = {}
    for one in fields(kind):
        if one.name == "process":
            continue
        if one.name not in said and (
            one.default is not MISSING or one.default_factory is not MISSING
        ):
            continue
        values[one.name] = _read(one.name, str(one.type), said[one.name])
    return values


def _read(name: str, kind: str, value: Any) -> Any:
    if kind == "tuple[Parking, ...]" and isinstance(value, list):
        return tuple(Parking(**_checked(Parking, _mapping(name, one))) for one in value)
    if kind == "tuple[Preserved, ...]" and isinstance(value, list):
        return tuple(Preserved(**_checked(Preserved, _mapping(name, one))) for one in value)
    if kind == "tuple[str, ...]" and isinstance(value, list):
        return tuple(_read(name, "str", one) for one in value)
    if kind == "Mapping[str, str]":
        return {
            _read(name, "str", k): _read(name, "str", v) for k, v in _mapping(name, value).items()
        }
    plain: dict[str, type | tuple[type, ...]] = {"str": str, "int": int, "float": (int, float)}
    wanted: type | tuple[type, ...] = bool if kind == "bool" else plain.get(kind, ())
    if not isinstance(value, wanted) or (kind != "bool" and isinstance(value, bool)):
        raise TypeError(f"{name} is not {kind}")
    return value


def _mapping(name: str, value: Any) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise TypeError(f"{name} is no object")
    return value
