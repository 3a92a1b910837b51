"""The QEMU that guests run in and the one that takes them over: installed, or in a folder beside.

Packages that were unpacked into a folder are not relocatable: such a QEMU loads firmware and
modules of the one that is installed. It is started by a script that tells it where its own are.
The script stays where it is: libvirt looks at it again whenever libvirtd starts while a guest runs
in it.
"""

from __future__ import annotations

import hashlib
import re
import shlex
import shutil
import subprocess
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from harness.core.errors import PlanError, UpdateFailed
from harness.core.files import public_folder, write_atomically
from harness.core.timebase import Deadline, Stopwatch
from harness.updates.requirements import ask

#: QEMU's user passes through it; only root writes to it.
WRAPPERS = Path("/var/lib/libvirt/harness/emulators")
_DATA = ("usr/share/qemu", "usr/share/seabios", "usr/lib/ipxe/qemu")
_MODULES = ("usr/lib/x86_64-linux-gnu/qemu", "usr/lib/qemu")
#: QEMU's user passes through, and sees nothing.
_PASS = 0o711
_QUIT = b'{"execute": "qmp_capabilities"}\n{"execute": "quit"}\n'
_VERSION = re.compile(r"version (\d+\.\d+\.\d+(?: \([^)]*\))?)")


@dataclass(frozen=True)
class Program:
    """A QEMU that can be started."""

    emulator: Path
    """What libvirt is given to start."""
    binary: Path
    """The executable that runs in the end."""
    version: str
    tree: Path | None = None


def installed(emulator: Path, deadline: Deadline) -> Program:
    """Return the QEMU that is installed as ``emulator``. Raises UpdateFailed."""
    return Program(emulator, emulator, version_of(emulator, deadline))


def in_tree(tree: Path, name: str, deadline: Deadline, wrappers: Path = WRAPPERS) -> Program:
    """Return the QEMU called ``name`` of a folder of unpacked packages. Raises UpdateFailed.

    Its script is not written yet: see :func:`write_wrapper`.
    """
    binary = tree / "usr/bin" / name
    version = version_of(binary, deadline)
    key = hashlib.sha256(f"{binary} {version}".encode()).hexdigest()[:12]
    return Program(wrappers / key / name, binary, version, tree)


def named(emulator: Path, deadline: Deadline) -> Program:
    """Return the QEMU that a guest's description names. Raises UpdateFailed.

    It is installed, or in the folder that a script of harness starts it from.
    """
    tree = _tree_of(emulator)
    if tree is None:
        return installed(emulator, deadline)
    return in_tree(tree, emulator.name, deadline)


def usual(emulator: Path) -> Path:
    """Return the QEMU a guest goes on in by default: the one that its description names.

    One that came back in a QEMU of a folder goes on in the installed one.
    """
    found = shutil.which(emulator.name) if _tree_of(emulator) is not None else None
    return Path(found) if found is not None else emulator


def _tree_of(emulator: Path) -> Path | None:
    """The folder of unpacked packages that a script of harness starts its QEMU from."""
    if emulator.parent.parent != WRAPPERS:
        return None
    try:
        words = shlex.split(emulator.read_text().splitlines()[-1])
        return Path(words[words.index("exec") + 1]).parents[2]
    except (OSError, ValueError, IndexError):
        return None


def running(
    own: Path, version: str, previous: Path | None, deadline: Deadline, *, stays: bool = True
) -> Program:
    """Return the QEMU that a guest runs in, to start it again: installed, or in a folder.

    ``own`` is what the guest's description names; ``stays``: what is installed there is not
    replaced before it is needed. Raises PlanError if it is in neither.
    """
    stays = stays or _tree_of(own) is not None
    candidates = [partial(named, own, deadline)] if stays else []
    if previous is not None:
        candidates.append(partial(in_tree, previous, own.name, deadline))
    for candidate in candidates:
        try:
            program = candidate()
        except UpdateFailed:
            continue
        if program.version == version:
            return program
    raise PlanError(
        f"it runs in QEMU {version}, which is not here any more, so there is no way back",
        hint="unpack the packages of that version into a folder: update.previous",
    )


def write_wrapper(program: Program) -> None:
    """Write the script that starts a QEMU of a folder; nothing for an installed one.

    Raises InfrastructureError.
    """
    if program.tree is None:
        return
    words = [str(program.binary)]
    for folder in _DATA:
        if (program.tree / folder).is_dir():
            words += ["-L", str(program.tree / folder)]
    modules = [program.tree / folder for folder in _MODULES if (program.tree / folder).is_dir()]
    setting = f"QEMU_MODULE_DIR={shlex.quote(str(modules[0]))} " if modules else ""
    script = f'#!/bin/sh\n{setting}exec {shlex.join(words)} "$@"\n'
    try:
        if program.emulator.exists() and program.emulator.read_text() == script:
            return  # libvirt probes a file that is new
        public_folder(program.emulator.parent, mode=_PASS)
    except OSError as error:
        raise UpdateFailed(f"cannot write {error.filename}: {error.strerror}") from error
    write_atomically(program.emulator, script, mode=0o755)


def start_time_s(program: Program, machine: str, deadline: Deadline) -> float:
    """Return how long this QEMU takes to start on this host, in seconds; 0 if it does not.

    A guest of that machine type without RAM of its own, devices or disks, which ends at once. What
    libvirt does beside that is not in it. Touches no guest.
    """
    watch = Stopwatch(deadline.clock)
    how = ["-machine", f"{machine},accel=tcg", "-nodefaults", "-no-user-config", "-S"]
    try:
        done = subprocess.run(
            [str(program.emulator), *how, "-display", "none", "-qmp", "stdio"],
            input=_QUIT,
            capture_output=True,
            timeout=deadline.timeout_s(),
        )
    except subprocess.TimeoutExpired:
        return watch.elapsed_s()
    except OSError:
        return 0.0
    answered = done.returncode == 0 and b'"return"' in done.stdout
    return watch.elapsed_s() if answered else 0.0


def version_of(binary: Path, deadline: Deadline) -> str:
    """Return what a QEMU says of itself: ``10.0.2 (Debian 1:10.0.2+ds-2)``. Raises UpdateFailed."""
    said = ask([str(binary), "--version"], deadline)
    found = _VERSION.search(said)
    if found is None:
        raise UpdateFailed(f"{binary} does not tell its version: {said[:200]!r}")
    return found[1]
