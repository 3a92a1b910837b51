"""The checkout as one file, to be unpacked in the box: what runs there is what is here."""

from __future__ import annotations

import tarfile
from pathlib import Path

#: What the box is given of the checkout; the rest (history, environments, caches) stays here.
PARTS = (
    *("harness", "vm-images", "scripts", "tests", "benchmarks"),
    *("pyproject.toml", "uv.lock", "README.md", "LICENSE", "Makefile"),
)
_LEFT_OUT = ("__pycache__", ".mypy_cache", ".ruff_cache", ".pytest_cache")


def pack(checkout: Path, target: Path) -> None:
    """Write ``target``, an uncompressed tar of ``PARTS``, owned by root."""

    def owned_by_root(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
        if Path(member.name).name in _LEFT_OUT:
            return None
        member.uid = member.gid = 0
        member.uname = member.gname = "root"
        return member

    with tarfile.open(target, "w") as archive:
        for part in PARTS:
            archive.add(checkout / part, part, filter=owned_by_root)
