"""The emulated host of these tests: a box with this checkout, and a boot loader that obeys GRUB."""

from __future__ import annotations

import io
import json
import re
import shlex
import subprocess
import tarfile
from pathlib import Path

from benchmarks.kernel.box import Box
from harness.lab.box.checkout import pack
from harness.lab.inputs import checkout

#: As Debian's grub2-common has it.
UPDATE_GRUB = """#!/bin/sh
set -e
exec grub-mkconfig -o /boot/grub/grub.cfg "$@"
"""
_LINUX = re.compile(r"^\s*linux\s+\S+\s+(.*)$", re.MULTILINE)
#: grub-mkconfig is a script; what it asks of the disk is the test's to answer.
PROBE = """#!/bin/sh
case "$*" in
    *device*) echo /dev/vda ;;
    *fs_uuid*) echo 0000-0000 ;;
    *fs*) echo ext2 ;;
    *) echo ;;
esac
"""


class Machine(Box):
    """A box that can be asked by words, and booted by what its GRUB says."""

    def harness(self, *words: str) -> str:
        """Run the command line in it; what it printed. Raises SystemExit if it fails."""
        return self.sh(shlex.join(["harness", *words]))

    def doctor(self) -> dict[str, tuple[str, str]]:
        """What doctor finds, by name: level and detail; a problem does not fail here."""
        said = json.loads(self.sh("harness doctor --json || true"))
        return {one["name"]: (one["level"], one["detail"]) for one in said["findings"]}

    def settle(self) -> None:
        """This checkout, and Debian's own way to GRUB's configuration, are in it."""
        pack(checkout(), self.folder / "checkout.tar")
        clean = "cd /opt/harness && rm -rf harness vm-images scripts tests benchmarks"
        self.sh(f"{clean} && tar -xf -", (self.folder / "checkout.tar").read_bytes())
        self.sh("tar -C / -xf -", _grub())
        self.sh("update-grub")

    def reboot(self) -> None:
        """An orderly reboot; its boot loader gives the kernel what GRUB's first entry says."""
        line = self.loader_lines()[0]
        self.sh("systemctl reboot")
        self.ended()
        kept = [word for word in line.split() if not word.startswith("root=") and word != "ro"]
        self.boot(
            " ".join([self.plain, *(word for word in kept if word not in self.plain.split())])
        )

    def rehearse(self) -> None:
        """A kexec of its own kernel; returns when that has come up."""
        self.harness("setup-host", "--rehearse-kexec", "--dry-run")
        already = len(self.lines["host"])
        self.sh(
            "setsid harness setup-host --rehearse-kexec >/root/rehearsal 2>&1 </dev/null & true"
        )
        self.wait("host", "Debian GNU/Linux", already)

    @property
    def plain(self) -> str:
        """Its command line without what decides about memory."""
        return " ".join(word for word in self.line.split() if not word.startswith("memmap="))

    def loader_lines(self) -> list[str]:
        """The command lines of all entries of GRUB."""
        return _LINUX.findall(self.sh("cat /boot/grub/grub.cfg"))


def _grub() -> bytes:
    """This machine's grub-mkconfig, for there is no boot loader in a box."""
    said = subprocess.run(
        ["dpkg", "-L", "grub-common"], check=True, stdout=subprocess.PIPE, text=True
    ).stdout
    wanted = ("/etc/grub.d/", "/usr/share/grub/", "/usr/bin/grub-", "/usr/sbin/grub-mkconfig")
    files = [Path(line) for line in said.splitlines() if line.startswith(wanted)]
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for file in files:
            if file.is_file() and not file.name.startswith("grub-probe"):
                archive.add(file, str(file).lstrip("/"))
        for path, text in (
            ("usr/sbin/update-grub", UPDATE_GRUB),
            ("usr/sbin/grub-probe", PROBE),
            ("etc/default/grub", 'GRUB_DEFAULT=0\nGRUB_TIMEOUT=0\nGRUB_CMDLINE_LINUX="quiet"\n'),
            ("boot/grub/.keep", ""),
        ):
            member = tarfile.TarInfo(path)
            member.mode, member.size = 0o755, len(text)
            archive.addfile(member, io.BytesIO(text.encode()))
    return packed.getvalue()
