"""The file that ``init=`` names: a few lines of shell, which become the real init in any case.

A kernel panics if its process 1 ends. So that one is a shell that starts the program and goes on to
the real init however the program ended: by an error, a crash of a library, or for want of time.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from harness.core.errors import InfrastructureError, MissingCapability, UpdateFailed
from harness.core.files import public_folder, write_atomically
from harness.core.last_line import last_line
from harness.core.timebase import Deadline
from harness.host.kernel import modules
from harness.host.kernel.early import PATH
from harness.updates.kernel.plan import CHECK

FOLDER = Path("/var/lib/harness/thaw")
INIT = Path("/sbin/init")
PROGRAM = "harness.maintenance.thaw.program"
_EXECUTABLE = 0o755
#: For what the program does after SIGTERM.
GRACE_S = 10
_TEXT = """#!/bin/sh
# Written by harness: what the next kernel runs first. It brings guests back, and becomes {init}.
PATH={search}
export PATH
[ -e /proc/self ] || mount -t proc proc /proc
[ -e /sys/kernel ] || mount -t sysfs sysfs /sys
echo "harness: the next kernel is up" 2>/dev/null >/dev/console
# While the program starts, which waits for them, and loads what is missing.
{modules} </dev/null >/dev/null 2>&1 &
timeout --kill-after={grace} {limit} {program} </dev/null
# Of a program that was killed; systemd starts its own libvirtd.
pid=$(cat /run/libvirtd.pid 2>/dev/null)
[ "$(cat "/proc/$pid/comm" 2>/dev/null)" != libvirtd ] || kill -9 "$pid"
for covered in /var/cache/libvirt/qemu/capabilities /etc/libvirt/qemu.conf; do
    umount "$covered" 2>/dev/null
done
exec {init} "$@"
"""


def text(
    plan: Path,
    limit_s: float,
    needed: Sequence[str] = (),
    init: Path = INIT,
    python: str = sys.executable,
) -> str:
    """Return what the file says; ``needed`` modules are loaded while the program starts."""
    program = [python, "-I", "-m", PROGRAM, str(plan)]
    return _TEXT.format(
        search=PATH,
        modules=shlex.join(modules.words(needed)) if needed else ":",
        init=shlex.quote(str(init)),
        grace=GRACE_S,
        limit=round(limit_s) + GRACE_S,
        program=shlex.join(program),
    )


def path(folder: Path = FOLDER) -> Path:
    """Return where the launcher is."""
    return folder / "init"


def require_root() -> None:
    """Raise MissingCapability if the program is not where an initrd leads to.

    The installed program is run, not a copy: it needs libvirt's binding, which is compiled, and
    the interpreter that this was compiled for.
    """
    for needed in (Path(sys.executable).resolve(), Path(__file__), Path(os.__file__)):
        if not is_on_root(needed):
            raise MissingCapability(
                "harness on the root file system",
                f"{needed} is on a file system of its own, which is not mounted before init",
            )


def write(plan: Path, limit_s: float, needed: Sequence[str] = (), folder: Path = FOLDER) -> Path:
    """Write the launcher, and return where it is. Raises InfrastructureError."""
    launcher = path(folder)
    try:
        public_folder(folder)
    except OSError as error:
        raise InfrastructureError(f"{folder}: {error.strerror}") from error
    write_atomically(launcher, text(plan, limit_s, needed), mode=_EXECUTABLE)
    return launcher


def forget(plan: Path, folder: Path = FOLDER) -> None:
    """Take away what a handover took: no guest waits for another kernel any more. Never raises."""
    for one in (path(folder), plan):
        with suppress(OSError):
            one.unlink(missing_ok=True)
    modules.forget(folder / modules.FOLDER.name)


def require_program(plan: Path, deadline: Deadline, python: str = sys.executable) -> None:
    """Have the program say that it could begin by that plan. Raises UpdateFailed.

    Nothing else would: its interpreter, what it imports and the plan are first used when guests
    wait. What it is compiled to is kept beside it, besides.
    """
    words = [python, "-I", "-m", PROGRAM, CHECK, str(plan)]
    try:
        done = subprocess.run(
            words, capture_output=True, text=True, timeout=deadline.timeout_s(), check=False
        )
    except subprocess.TimeoutExpired as error:
        raise UpdateFailed("the program that brings guests back did not start in time") from error
    if done.returncode:
        last = last_line(done.stderr, f"exit status {done.returncode}")
        raise UpdateFailed(f"the program that brings guests back would not start: {last}")


def is_on_root(path: Path) -> bool:
    """Return True if ``path`` is there, on what an initrd mounts: the root, or /usr."""
    try:
        device = path.stat().st_dev
        return device in (os.stat("/").st_dev, os.stat("/usr").st_dev)
    except OSError:
        return False
