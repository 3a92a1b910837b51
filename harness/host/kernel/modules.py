"""Modules that the next kernel needs while guests wait, unpacked beforehand.

Distributions pack them by xz, which is unpacked slowly, and each that a program has the kernel ask
for is a process more. Those that are needed are laid beside, in a tree of their own.
"""

from __future__ import annotations

import gzip
import lzma
import shutil
import subprocess
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

from harness.core.files import public_folder

#: Beside the launcher: gone with it.
FOLDER = Path("/var/lib/harness/thaw/modules")
_LOADED = Path("/sys/module")
_PATIENCE_S = 60.0
_UNPACK: dict[str, Callable[[bytes], bytes]] = {
    ".xz": lzma.decompress,
    ".gz": gzip.decompress,
    ".ko": bytes,
}


def unpack(release: str, names: Iterable[str], folder: Path = FOLDER) -> None:
    """Lay the modules ``names`` of a kernel, and what they need, into ``folder``.

    Never raises: what is not there is loaded from where it was installed.
    """
    forget(folder)
    with suppress(OSError, subprocess.SubprocessError, lzma.LZMAError, EOFError):
        root = public_folder(folder) / "lib" / "modules" / release
        target = public_folder(root / "kernel")
        for line in _said("modprobe", "-S", release, "--all", "--show-depends", *names):
            verb, _, file = line.strip().partition(" ")
            path = Path(file.split(" ", 1)[0])
            if verb == "insmod" and path.suffix in _UNPACK:
                unpacked = path.with_suffix("") if path.suffix != ".ko" else path
                (target / unpacked.name).write_bytes(_UNPACK[path.suffix](path.read_bytes()))
        for name in ("modules.order", "modules.builtin"):  # depmod goes by them
            with suppress(OSError):
                shutil.copyfile(Path("/lib/modules", release, name), root / name)
        _said("depmod", "--basedir", str(folder), release)


def words(names: Iterable[str], folder: Path = FOLDER) -> list[str]:
    """Return the command that loads those that lie in ``folder``."""
    return ["modprobe", "--dirname", str(folder), "--all", *names]


def load(names: Iterable[str], folder: Path = FOLDER) -> None:
    """Load modules as far as this kernel has them; what needs one that is missing says so.

    One that another process is loading is waited for.
    """
    left = _missing(names)
    if left and folder.is_dir():
        subprocess.run(words(left, folder), check=False, capture_output=True)
        left = _missing(left)
    if left:
        subprocess.run(["modprobe", "--all", *left], check=False, capture_output=True)


def _missing(names: Iterable[str]) -> list[str]:
    return [one for one in names if not _is_there(_LOADED / one)]


def _is_there(module: Path) -> bool:
    """Whether it is loaded, and has begun to work; one that is built in has no state."""
    try:
        return (module / "initstate").read_text().strip() == "live"
    except OSError:
        return module.is_dir()


def forget(folder: Path = FOLDER) -> None:
    """Take them away. Never raises."""
    shutil.rmtree(folder, ignore_errors=True)


def _said(*words: str) -> list[str]:
    done = subprocess.run(words, capture_output=True, text=True, timeout=_PATIENCE_S, check=False)
    return done.stdout.splitlines()
