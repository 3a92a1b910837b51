"""dpkg's side: is it healthy, what is installed, and which .deb holds an earlier version."""

from __future__ import annotations

import fcntl
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from harness.core.errors import ConfigError, UpdateFailed
from harness.core.timebase import Deadline
from harness.core.trust import refuse_untrusted
from harness.updates.requirements import ask
from harness.updates.transaction import Change

#: A program that changes packages holds these.
LOCKS = (Path("/var/lib/dpkg/lock-frontend"), Path("/var/lib/dpkg/lock"))
ARCHIVES = Path("/var/cache/apt/archives")
_FORMAT = "${binary:Package} ${db:Status-Status} ${Version}\\n"
_FIELDS = "${Package} ${Version} ${Architecture}\\n"


def require_health(deadline: Deadline) -> None:
    """Raises UpdateFailed if a package is half-installed, or another program is at work."""
    expect_audited(deadline)
    for lock in LOCKS:
        if _held(lock):
            raise UpdateFailed(
                f"dpkg is locked ({lock}): another program is changing packages",
                hint="wait for it; unattended-upgrades does so daily",
            )


def expect_audited(deadline: Deadline) -> None:
    """Raises UpdateFailed naming what ``dpkg --audit`` complains about."""
    said = " ".join(ask(["dpkg", "--audit"], deadline).split())
    if said:
        raise UpdateFailed(
            f"dpkg --audit: {said[:300]}", hint="dpkg --configure -a, apt-get -f install"
        )


def _held(lock: Path) -> bool:
    try:
        with open(lock, "r+b") as file:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # given back by closing
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    except OSError as error:
        raise UpdateFailed(f"cannot look at {lock}: {error.strerror}") from error
    return False


def installed(names: Iterable[str], deadline: Deadline) -> dict[str, str]:
    """Return name → version of those of ``names`` that are installed and configured."""
    seen = known(names, deadline)
    return {name: version for name, (status, version) in seen.items() if status == "installed"}


def known(names: Iterable[str], deadline: Deadline) -> dict[str, tuple[str, str]]:
    """Return name → (status, version) of those of ``names`` that left anything on this host.

    Asked for all packages: dpkg-query fails for a name that it does not know.
    """
    wanted = set(names)
    found: dict[str, tuple[str, str]] = {}
    for line in ask(["dpkg-query", "--show", f"--showformat={_FORMAT}"], deadline).splitlines():
        name, status, version = line.split(" ")
        for key in {name, name.partition(":")[0]} & wanted:
            if status != "not-installed":
                found[key] = (status, version)
    return found


def require_deb(path: Path, key: str) -> None:
    """Raises ConfigError unless it is a package that no other user can change."""
    if not path.is_file():
        raise ConfigError(f"{path}: no such file", key=key)
    refuse_untrusted(path, key=key)  # its scripts will run as root
    if not path.name.endswith(".deb"):
        raise ConfigError(f"{path} is no .deb", key=key)


def holding(
    versions: Mapping[Change, str | None], folders: Sequence[Path], deadline: Deadline
) -> Mapping[Change, Path]:
    """For each change and a version of its package, the .deb that holds it, if there is one.

    ``folders`` are looked through; a file among them stands for itself. Files are found by name, as
    every mirror names them, and believed by their content.
    """
    found: dict[Change, Path] = {}
    for change, wanted in versions.items():
        for path in _candidates(change, folders) if wanted is not None else ():
            package, version, arch = _described(path, deadline)
            fits = arch in (change.arch, "all") or change.arch is None
            if (package, version) == (change.package, wanted) and fits:
                found[change] = path
                break
    return found


def paths(deb: Path, deadline: Deadline) -> tuple[str, ...]:
    """The files in a package, like ``./boot/vmlinuz-6.1``. Raises UpdateFailed for a bad one."""
    lines = ask(["dpkg-deb", "--contents", str(deb)], deadline).splitlines()
    # Mode, owner, size, date, time, path; a link's path is followed by where it leads.
    found = (line.split(maxsplit=5) for line in lines)
    return tuple(words[5].partition(" -> ")[0] for words in found if len(words) == 6)


def _candidates(change: Change, folders: Sequence[Path]) -> list[Path]:
    pattern = re.compile(re.escape(change.package) + r"_.*\.deb")
    named = [path for path in folders if path.is_file()]  # its name may be anything
    return named + [
        Path(where, name)
        for folder in folders
        for where, _, names in os.walk(folder)
        for name in sorted(names)
        if pattern.fullmatch(name)
    ]


def _described(path: Path, deadline: Deadline) -> tuple[str, ...]:
    """Package, version, architecture; empty for what is no package."""
    try:
        said = ask(["dpkg-deb", "--show", f"--showformat={_FIELDS}", str(path)], deadline).split()
    except UpdateFailed:
        return ("", "", "")
    return tuple(said) if len(said) == 3 else ("", "", "")
