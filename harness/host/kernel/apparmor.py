"""AppArmor before systemd has loaded it: a libvirtd that is not confined itself confines no guest.

It would refuse each guest that was confined. The profiles of guests are its own helper's to load.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from harness.core.errors import InfrastructureError
from harness.core.last_line import last_line
from harness.core.timebase import Deadline
from harness.host.kernel import early
from harness.host.kernel.early import PATH

PARSER = "apparmor_parser"
PROFILES = Path("/etc/apparmor.d")
#: Of libvirtd: as it is called by its packages. Its helper's is there where it has one of its own.
DAEMON, HELPER = "usr.sbin.libvirtd", "usr.lib.libvirt.virt-aa-helper"
_SECURITY = Path("/sys/kernel/security")


def missing(profiles: Path = PROFILES) -> str:
    """Return what of it is not there, in words; empty if all is."""
    if shutil.which(PARSER, path=PATH) is None:
        return f"no {PARSER}"
    return "" if (profiles / DAEMON).is_file() else f"no {profiles / DAEMON}"


def confine_libvirtd(deadline: Deadline, profiles: Path = PROFILES) -> None:
    """Have a libvirtd that is started from now on be confined. Raises InfrastructureError."""
    if not _SECURITY.is_mount():
        early.mount("securityfs", _SECURITY, "securityfs")
    files = [str(profiles / one) for one in (DAEMON, HELPER) if (profiles / one).is_file()]
    try:
        done = subprocess.run(
            [PARSER, "--replace", *files],
            capture_output=True,
            text=True,
            timeout=deadline.timeout_s(),
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise InfrastructureError(f"{PARSER}: {error}") from error
    if done.returncode:
        last = last_line(done.stderr, f"exit status {done.returncode}")
        raise InfrastructureError(f"{PARSER}: {last}")
