"""Guest images: built once from the recipes in ``vm-images/``, cached by the recipe's content."""

from __future__ import annotations

import fcntl
import hashlib
import os
import platform
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from harness.core.errors import LabError, UsageError
from harness.core.files import public_folder
from harness.core.paths import cache_dir
from harness.core.timebase import Stopwatch
from harness.lab.inputs import checkout, inputs_of

Progress = Callable[[str], None]

#: A build ends with us, even when we are killed, and so does everything it mounted: mmdebstrap
#: mounts the machine's own /sys into the folder that the next build would clear away.
#: Whatever that of the caller: a guest's own files get their modes by it.
_UMASK = 0o022
_CONFINED = (
    *("setpriv", "--pdeathsig", "KILL"),
    *("unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"),
)


@dataclass(frozen=True)
class Image:
    """A built image: a kernel and initrd to boot directly, a disk, or all three."""

    name: str
    kernel: Path | None
    initrd: Path | None
    disk: Path | None
    disk_format: str = "raw"


def recipes() -> dict[str, Path]:
    """Image name → recipe folder: beside the package in a checkout, inside it when installed."""
    package = Path(__file__).resolve().parent
    for folder in (package.parents[1] / "vm-images", package / "recipes"):
        found = {build.parent.name: build.parent for build in sorted(folder.glob("*/build"))}
        if found:
            return found
    return {}


def recipe_key(recipe: Path) -> str:
    """Return a digest of everything that the image depends on.

    That is every file's name, content and executable bit, the machine, and what the recipe's
    ``inputs`` name.
    """
    digest = hashlib.sha256(platform.machine().encode())
    for file in sorted(path for path in recipe.rglob("*") if path.is_file()):
        if file.name != "README.md":
            digest.update(_line(str(file.relative_to(recipe)), file))
    needed = inputs_of(recipe)
    for name in needed.files:
        digest.update(_line(f"../{name}", checkout() / name))
    for name in needed.images:
        digest.update(f"image {_folder(name).name}\n".encode())
    return digest.hexdigest()[:16]


def _line(name: str, file: Path) -> bytes:
    content = hashlib.sha256(file.read_bytes()).hexdigest()
    return f"{name} {os.access(file, os.X_OK)} {content}\n".encode()


def _folder(name: str) -> Path:
    """Where the image called ``name`` is, or will be. Raises UsageError for an unknown name."""
    known = recipes()
    if name not in known:
        raise UsageError(f"no image called {name!r}", hint=f"images: {', '.join(known)}")
    return cache_dir() / "images" / f"{name}-{recipe_key(known[name])}"


def ensure(name: str, progress: Progress) -> Image:
    """The image called ``name``, built now if its recipe has not been built before.

    Images that it needs are built first. Raises UsageError for an unknown name, LabError if the
    build fails.
    """
    folder = _folder(name)
    if not folder.is_dir():
        recipe = recipes()[name]
        for needed in inputs_of(recipe).images:
            ensure(needed, progress)
        with _one_builder(folder.parent):
            if not folder.is_dir():
                _build(name, recipe, folder, progress)

    def part(file_name: str) -> Path | None:
        return folder / file_name if (folder / file_name).exists() else None

    return Image(name, part("kernel"), part("initrd"), part("disk.img"))


@contextmanager
def _one_builder(folder: Path) -> Iterator[None]:
    public_folder(folder)
    with open(folder / ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _build(name: str, recipe: Path, folder: Path, progress: Progress) -> None:
    watch = Stopwatch()
    half_built = folder.with_name(f".{folder.name}.building")
    shutil.rmtree(half_built, ignore_errors=True)  # of a build that was cut off; we hold the lock
    public_folder(half_built, new=True)
    progress(f"building image {name}, once")
    try:
        _run_recipe(name, recipe, half_built, progress)
        os.sync()  # the rename must not reach the disk before what it names
        half_built.rename(folder)
    except BaseException:
        shutil.rmtree(half_built, ignore_errors=True)
        raise
    progress(f"image {name} built in {watch.elapsed_s():.0f} s")


def _run_recipe(name: str, recipe: Path, out: Path, progress: Progress) -> None:
    lines: list[str] = []
    with subprocess.Popen(
        [*_CONFINED, recipe / "build", out],
        # Temporary files are large, and in there they are found again after a kill.
        env={**os.environ, "TMPDIR": str(out), **_inputs_as_environment(recipe)},
        umask=_UMASK,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            lines.append(line.rstrip())
            progress(f"  {name}: {lines[-1]}")
    if process.returncode != 0:
        raise LabError(
            f"building image {name} ended with status {process.returncode}: "
            f"{' / '.join(lines[-3:])}",
            hint="are the packages installed (make setup), and is the package mirror reachable?",
        )


def _inputs_as_environment(recipe: Path) -> dict[str, str]:
    needed = inputs_of(recipe)
    found = {}
    if needed.files:
        found["HARNESS_CHECKOUT"] = str(checkout())
    if needed.images:
        found["HARNESS_IMAGES"] = ":".join(str(_folder(name)) for name in needed.images)
    return found
