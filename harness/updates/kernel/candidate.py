"""The kernel that is to come, by its files: what is there of it, and what it was built with."""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePath

BOOT, MODULES = Path("/boot"), Path("/lib/modules")
_SET = re.compile(r"^(CONFIG_\w+)=(.*)$", re.MULTILINE)


@dataclass(frozen=True)
class Candidate:
    """What was found of a kernel; nothing is judged."""

    release: str
    """As ``uname -r`` will say."""
    kernel: Path
    initrd: Path
    unreadable: Mapping[Path, str]
    """Of the two files those that cannot be read, and why."""
    modules: frozenset[str] | None
    """What can be loaded, or is built in, by the kernel's own names; None: it has no folder."""
    config: Mapping[str, str] | None
    """``CONFIG_FS_DAX`` → ``y``, as far as set; None: no user tells."""
    command_line: str


def look(
    release: str,
    kernel: Path,
    initrd: Path,
    command_line: str,
    *,
    boot: Path = BOOT,
    modules: Path = MODULES,
) -> Candidate:
    """Look at the files of a kernel; changes nothing, and raises nothing for what is not there."""
    home = modules / release
    return Candidate(
        release,
        kernel,
        initrd,
        {path: why for path in (kernel, initrd) if (why := _unreadable(path))},
        _modules(home) if home.is_dir() else None,
        _config((boot / f"config-{release}", home / "config")),
        command_line,
    )


def _unreadable(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return "" if file.read(1) else "it is empty"
    except OSError as error:
        return str(error.strerror)


def _modules(home: Path) -> frozenset[str]:
    """What `modprobe` finds: depmod's list, and what needs no loading."""
    found: set[str] = set()
    for name in ("modules.dep", "modules.builtin"):
        with suppress(OSError):
            files = [line.partition(":")[0] for line in (home / name).read_text().splitlines()]
            found |= {PurePath(one).name.partition(".ko")[0] for one in files}
    return frozenset(name.replace("-", "_") for name in found)


def _config(places: tuple[Path, ...]) -> Mapping[str, str] | None:
    for place in places:
        with suppress(OSError):
            return dict(_SET.findall(place.read_text()))
    return None
