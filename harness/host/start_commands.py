"""What a QEMU reads from a file as it starts: that its RAM is there already.

libvirt has no word for the migration capability ``x-ignore-shared``, so the QEMU that is to take
over a guest gets a monitor that reads a file: ``-chardev pipe,path=P`` opens ``P.in`` and
``P.out``. Its commands can be read before QEMU's main loop turns for the first time, and libvirt
talks to QEMU a dozen times before it lets it load a state.

``P.in`` and ``P.out`` are links in a folder of root's that outlasts a reboot, because each later
start by the same description needs them. They lead to ``/dev/null``, but for the time of a
restore of harness: then ``P.in`` leads to the commands, under ``/run``. After a reboot of the host
in that time it leads nowhere, and no QEMU starts: better none than one with empty RAM.
"""

from __future__ import annotations

import json
import os
from contextlib import suppress
from pathlib import Path

from harness.core.errors import InfrastructureError
from harness.core.files import public_folder
from harness.host.parking import Parking

CAPABILITY = "x-ignore-shared"
#: Of the chardev and the monitor, in QEMU's words.
MONITOR = "harness"
_LINKS = Path("/var/lib/libvirt/harness")
_COMMANDS = Path("/run/harness/qemu")
_NOTHING = Path(os.devnull)
#: QEMU's user passes through, and sees nothing.
_PASS = 0o711


def capability(on: bool) -> dict[str, object]:
    """Return the arguments of ``migrate-set-capabilities``."""
    return {"capabilities": [{"capability": CAPABILITY, "state": on}]}


def arguments(commands: str) -> tuple[str, ...]:
    """Return the arguments of a QEMU that reads its commands at ``commands``."""
    chardev = f"pipe,id={MONITOR},path={commands}"
    return ("-chardev", chardev, "-mon", f"chardev={MONITOR},mode=control")


class StartCommands:
    """The files of one guest; ``path`` is what its QEMU is given."""

    def __init__(self, path: Path, folder: Path = _COMMANDS) -> None:
        self._path = path
        self._file = commands_file(str(path), folder)

    @property
    def armed(self) -> bool:
        """Whether a QEMU that is started now looks for commands; also where they are gone."""
        try:
            return os.readlink(self._path.with_name(f"{self._path.name}.in")) != str(_NOTHING)
        except OSError:
            return False

    def arm(self, user: int, group: int) -> None:
        """Have the next QEMU told; a new file, because the last one may write into its own.

        Raises InfrastructureError.
        """
        lines: tuple[dict[str, object], ...] = (
            {"execute": "qmp_capabilities"},
            {"execute": "migrate-set-capabilities", "arguments": capability(on=True)},
        )
        try:
            for folder in (self._path.parent, self._file.parent):
                public_folder(folder, mode=_PASS)
            fresh = self._file.with_suffix(".new")
            fresh.unlink(missing_ok=True)
            descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            with open(descriptor, "w", encoding="ascii") as file:
                os.fchown(descriptor, user, group)  # QEMU opens it for reading and writing
                file.write("".join(f"{json.dumps(line)}\n" for line in lines))
            os.replace(fresh, self._file)
            self._lead(self._file)
        except OSError as error:
            raise InfrastructureError(f"{error.filename}: {error.strerror}") from error

    def disarm(self) -> None:
        """Have later QEMUs told nothing. Raises InfrastructureError.

        There is nothing to do for a guest whose QEMU was never told anything.
        """
        if not self._path.parent.is_dir():
            return
        try:
            self._lead(_NOTHING)
        except OSError as error:
            raise InfrastructureError(f"{error.filename}: {error.strerror}") from error
        with suppress(OSError):
            self._file.unlink()

    def _lead(self, to: Path) -> None:
        for end, target in ((".in", to), (".out", _NOTHING)):
            link = self._path.with_name(self._path.name + end)
            fresh = link.with_name(f"{link.name}.new")
            fresh.unlink(missing_ok=True)
            fresh.symlink_to(target)
            os.replace(fresh, link)


def commands_file(path: str, folder: Path = _COMMANDS) -> Path:
    """Return the file that ``path`` of a QEMU leads to while it is given commands."""
    return folder / Path(path).name


def path_for(uuid: str, folder: Path = _LINKS) -> Path:
    """Return what the QEMU of a guest is given as the path of its commands."""
    return folder / uuid


def description(parking: Parking, which: str) -> str:
    """Return what the guest is started by: ``NEW`` or ``OLD``. Raises InfrastructureError."""
    file = Path(parking.files, which)
    try:
        return file.read_text()
    except OSError as error:
        raise InfrastructureError(f"{file}: {error.strerror}") from error
