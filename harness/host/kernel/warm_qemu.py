"""A QEMU that is started once without a guest, so that the first guest's starts like the next's.

After a boot its program and libraries are on the disk only, and reading them is much of the time
that the first guest waits for. It can be done beside, where there is a CPU; nothing needs it.
"""

from __future__ import annotations

import os
import pwd
import subprocess
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from xml.etree import ElementTree

#: It makes its machine, and ends.
_SAID = b'{"execute": "qmp_capabilities"}\n{"execute": "quit"}\n'
_PLAIN = ("-no-user-config", "-nodefaults", "-display", "none", "-m", "16", "-S", "-qmp", "stdio")


def described(descriptions: Iterable[str]) -> dict[str, str]:
    """Return of guests' descriptions (XML): emulator → machine, as QEMU takes it."""
    found = {}
    for text in descriptions:
        domain = ElementTree.fromstring(text)
        emulator, kind = domain.findtext("devices/emulator", ""), domain.find("os/type")
        machine = kind.get("machine", "none") if kind is not None else "none"
        accelerator = "kvm" if domain.get("type") == "kvm" else "tcg"
        if emulator:
            found[emulator] = f"{machine},accel={accelerator}"
    return found


class WarmQemu:
    """QEMUs that run beside, one of each kind, until :meth:`end`. Never raises.

    As the owner of ``ram``, a file of a guest's RAM: it is libvirt's for QEMUs.
    """

    def __init__(self, machines: Mapping[str, str], ram: Path | None) -> None:
        self._started: list[subprocess.Popen[bytes]] = []
        if ram is None:
            return
        for emulator, machine in machines.items():
            with suppress(OSError, KeyError, subprocess.SubprocessError):
                about = ram.stat()
                user = pwd.getpwuid(about.st_uid)
                self._start([emulator, "-machine", machine, *_PLAIN], user, about.st_gid)

    def _start(self, words: list[str], user: pwd.struct_passwd, group: int) -> None:
        process = subprocess.Popen(
            words,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            cwd="/",
            user=user.pw_uid,
            group=group,
            extra_groups=os.getgrouplist(user.pw_name, group),
        )
        self._started.append(process)
        if process.stdin is not None:
            process.stdin.write(_SAID)
            process.stdin.close()

    def end(self) -> None:
        """End those that run still: now the CPU is for guests."""
        for process in self._started:
            with suppress(OSError):
                process.kill()
            process.wait()
        self._started.clear()
