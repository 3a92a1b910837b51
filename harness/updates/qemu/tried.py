"""Which libvirt and QEMUs were tried on real guests, and what came of it: tried.toml. Pure."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from itertools import pairwise

#: Of a version, what tells one release from another: (10, 0).
Release = tuple[int, int]


@dataclass(frozen=True)
class Row:
    """One libvirt, and the QEMUs that guests went through under it."""

    libvirt: str
    debian: str
    """The Debian that has it."""
    qemu: tuple[str, ...]
    refused: str = ""
    """What came of it, where the last QEMU did not take the guest; "" where all did."""

    @property
    def hops(self) -> Iterator[tuple[str, str]]:
        """From, to."""
        return pairwise(self.qemu)


@cache
def rows() -> Sequence[Row]:
    """All that was tried."""
    text = resources.files("harness.updates.qemu").joinpath("tried.toml").read_text()
    return [Row(**{**row, "qemu": tuple(row["qemu"])}) for row in tomllib.loads(text)["row"]]


def release(version: str) -> Release:
    """``10.0.2 (Debian …)`` → (10, 0)."""
    major, minor = version.split()[0].split(".")[:2]
    return int(major), int(minor)


def works(libvirt: Release, old: Release, new: Release) -> bool:
    """Tell whether guests went from ``old`` to ``new`` under that libvirt, and all was well.

    Into the QEMU that a guest runs in it comes back whenever another one refuses it.
    """
    hops = {
        (release(one), release(other))
        for row in rows()
        if release(row.libvirt) == libvirt and not row.refused
        for one, other in row.hops
    }
    return (old, new) in hops or (old == new and any(old in hop for hop in hops))


def refuses(old: str, new: str) -> bool:
    """Tell whether the QEMU of version ``new`` was seen to refuse a guest of ``old``, exactly."""
    last = [tuple(row.qemu[-2:]) for row in rows() if row.refused]
    return (old.split()[0], new.split()[0]) in last
