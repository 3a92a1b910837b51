"""How many connections, and calls at once, this host's libvirt daemon takes.

Past ``max_clients`` a daemon does not refuse a connection: it leaves it waiting, without a word,
until another client goes.
"""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from urllib.parse import urlsplit

from harness.core.headroom import DaemonLimits, Limit

#: The admin interface is a socket of this machine; a daemon that hangs must not hold a plan up.
_ASK_S = 5.0
#: Daemon → its admin socket. The modular one first: where it runs, it has the guests.
_ADMIN_SOCKETS = {"virtqemud": "virtqemud-admin-sock", "libvirtd": "libvirt-admin-sock"}
_ASSIGNMENT = re.compile(r"^\s*(\w+)\s*=\s*(\d+)\s*(?:#.*)?$", re.MULTILINE)
_KEYS = ("max_clients", "max_workers")
_LINE = re.compile(r"^\s*(\w+)\s*:\s*(\d+)\s*$", re.MULTILINE)


def daemon_limits(
    uri: str, run: Path = Path("/run"), etc: Path = Path("/etc")
) -> DaemonLimits | None:
    """Return the limits of the daemon behind ``uri``; None: not of this host, or unknown.

    The daemon is asked where this user may; else its configuration is read, which does not tell how
    many are connected. Never raises.
    """
    place = _place(uri, run, etc)
    if place is None:
        return None
    sockets, folder, kind = place
    there = [name for name, socket in _ADMIN_SOCKETS.items() if (sockets / socket).exists()]
    for daemon in there:
        if (found := _asked(daemon, kind)) is not None:
            return found
    return _configured(there[0], folder / f"{there[0]}.conf") if there else None


def _place(uri: str, run: Path, etc: Path) -> tuple[Path, Path, str] | None:
    """Where the daemon has its sockets and its configuration, and which kind it is."""
    parts = urlsplit(uri)
    if parts.scheme != "qemu" or parts.netloc or parts.query:
        return None
    if parts.path == "/system":
        return run / "libvirt", etc / "libvirt", "system"
    if parts.path != "/session":
        return None
    runtime = Path(os.environ.get("XDG_RUNTIME_DIR") or run / f"user/{os.geteuid()}")
    config = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    return runtime / "libvirt", config / "libvirt", "session"


def _asked(daemon: str, kind: str) -> DaemonLimits | None:
    """Ask by libvirt's own program, as its library for this has no binding for Python."""
    told = _virt_admin(daemon, kind, "server-clients-info", "server-threadpool-info")
    most, now = told.get("nclients_max"), told.get("nclients")
    if most is None or now is None:
        return None
    limit = Limit(max(0, most - now), f"max_clients of {daemon}, which is {most}")
    return DaemonLimits(daemon, limit, told.get("maxWorkers"))


def _virt_admin(daemon: str, kind: str, *questions: str) -> dict[str, int]:
    """The figures in its answers; all questions are asked by one process."""
    asked = "; ".join(f"{one} {daemon}" for one in questions)
    words = ["virt-admin", "--connect", f"{daemon}:///{kind}", asked]
    try:
        done = subprocess.run(
            words,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=_ASK_S,
            env={**os.environ, "LC_ALL": "C"},
        )
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return {}
    return {name: int(value) for name, value in _LINE.findall(done.stdout)}


def _configured(daemon: str, file: Path) -> DaemonLimits | None:
    try:
        said = dict(_ASSIGNMENT.findall(file.read_text(errors="replace")))
    except OSError:
        return None
    most, workers = (int(said[key]) if key in said else None for key in _KEYS)
    limit = None if most is None else Limit(most, f"max_clients in {file}, which is {most}")
    return DaemonLimits(daemon, limit, workers)
