"""Setting this host up so that the RAM of its guests outlives its kernel, and undoing that.

A line for the boot loader, a unit that makes the region's file system at boot, and the mount unit
of libvirt's memory backing folder. Nothing of it is in force before the next boot.
"""

from __future__ import annotations

import re
import shlex
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from harness.core.errors import UsageError
from harness.core.process_state import python_module
from harness.core.trust import refuse_untrusted, refuse_untrusted_tree
from harness.host.mounts import DAX, file_system
from harness.host.region import boot, rehearsal
from harness.host.region.handover import HANDOVER, is_pending
from harness.host.region.place import Region, choose, is_set_aside, regions, size_of, words
from harness.host.resident_setup import Host, template
from harness.host.setup_steps import Change, Setup, read

UNIT = "harness-region.service"
#: Read by grub-mkconfig after what the owner has in /etc/default/grub.
LOADER = Path("/etc/default/grub.d/harness-region.cfg")
_MODULE = "harness.host.region.boot"
_PACKAGE = Path(__file__).parents[2]
_STARTED = re.compile(
    rf'^ExecStart=.*"?{re.escape(_MODULE)}"? "?(0x[0-9a-f]+)"? "?(0x[0-9a-f]+)"? (.+)$',
    re.MULTILINE,
)
_CONDITION = re.compile(r"^ConditionKernelCommandLine=(\S+)$", re.MULTILINE)


@dataclass(frozen=True)
class Enrolled:
    """What was set up; what is in force is another question."""

    region: Region
    argument: str
    """How kernels' command lines say it."""
    folder: Path
    """Where it is mounted."""


@dataclass(frozen=True)
class Enrolment:
    """Where this host keeps what is changed; tests give other places."""

    host: Host
    loader: Path = LOADER
    command_line: Path = boot.COMMAND_LINE
    iomem: Path = boot.IOMEM
    link: Path = boot.LINK
    handover: Path = HANDOVER
    rehearsals: tuple[Path, ...] = (rehearsal.RECORD, rehearsal.BEGUN)
    update_grub: str | None = None
    """The program that writes the boot loader's configuration; None: this host has none."""

    @classmethod
    def this(cls) -> Enrolment:
        """Return this host."""
        return cls(Host.this(), update_grub=shutil.which("update-grub"))

    @property
    def unit(self) -> Path:
        """The unit that makes the file system."""
        return self.host.units / UNIT

    def enrolled(self) -> Enrolled | None:
        """Return what was set up here; None if nothing was. Raises InfrastructureError."""
        text = read(self.unit) or ""
        started, condition = _STARTED.search(text), _CONDITION.search(text)
        if started is None or condition is None:
            return None
        (folder,) = shlex.split(started[3].replace("%%", "%").replace("$$", "$"))
        return Enrolled(
            Region(int(started[1], 16), int(started[2], 16)), condition[1], Path(folder)
        )

    def set_up(self, size: str) -> Setup:
        """Return what is missing for a region of ``size`` (``4G``).

        Raises UsageError where there is no room for it, or it cannot be changed now; ConfigError
        where another user can change what root would run at boot.
        """
        self._refuse_while_pending()
        refuse_untrusted(Path(sys.executable))
        refuse_untrusted_tree(_PACKAGE)
        wanted = self._wanted(size_of(size))
        texts = self.texts(wanted)
        files = [Change(path, text, text) for path, text in texts.items() if read(path) != text]
        changed = [one.path for one in files]
        after: list[tuple[str, ...]] = []
        if self.loader in changed and self.update_grub is not None:
            after.append((self.update_grub,))
        if self.unit in changed or self.host.unit in changed:
            after.append(("systemctl", "daemon-reload"))
            after.append(("systemctl", "enable", *self._now(wanted), self.host.unit.name))
        done = self.host.with_rules(files, after, wanted=True)
        return replace(done, remarks=self._remarks(wanted))

    def undo(self) -> Setup:
        """Return what takes it away again, and with it what else was set up for RAM of guests.

        Raises UsageError while guests have RAM in there, or a handover is pending.
        """
        if self.enrolled() is None and read(self.loader) is None:
            return self.host.undo()
        self._refuse_while_pending()
        done = self.host.undo()
        stop = (("systemctl", "stop", UNIT),) if read(self.unit) is not None else ()
        ours = (self.unit, self.loader, *self.rehearsals)
        there = [path for path in ours if read(path) is not None]
        there += [self.link] if self.link.is_symlink() else []
        update = ((self.update_grub,),) if self.loader in there and self.update_grub else ()
        return Setup(
            (*(Change(path, None, "") for path in there), *done.files),
            (*done.before, *stop),
            (*update, *done.after),
            ("the memory stays set aside until the next reboot",),
        )

    def texts(self, wanted: Enrolled) -> dict[Path, str]:
        """Return the files of a host that has this region, whole."""
        region = wanted.region
        start = python_module(_MODULE, hex(region.start), hex(region.size), str(wanted.folder))
        found = {self.loader: "region.cfg"} if self.update_grub is not None else {}
        found |= {self.unit: UNIT, self.host.unit: "region.mount"}
        values = {
            "@ARGUMENT@": wanted.argument,
            "@HANDOVER@": str(self.handover.parent),
            "@LINK@": str(self.link),
            "@FOLDER@": str(wanted.folder),
            "@COMMAND@": exec_start(start),
        }
        texts = {path: template(name) for path, name in found.items()}
        for mark, value in values.items():
            texts = {path: text.replace(mark, value) for path, text in texts.items()}
        return texts

    def _wanted(self, size: int) -> Enrolled:
        before = self.enrolled()
        folder, line = self.host.folder, read(self.command_line) or ""
        if self.update_grub is None:
            for word in words(line):
                for region in regions(word):
                    if region.size == size and is_set_aside(region, self._memory()):
                        return Enrolled(region, word, folder)
        region = choose(self._memory(), size, before.region if before is not None else None)
        if self.update_grub is None:
            raise UsageError(
                "there is no update-grub here, so harness cannot change what this host's kernels "
                "are booted with",
                hint=f"have your boot loader add {region.argument} to every kernel's command line, "
                "reboot, and run this again",
            )
        return Enrolled(region, region.argument, folder)

    def _memory(self) -> str:
        return read(self.iomem) or ""

    def _now(self, wanted: Enrolled) -> list[str]:
        """``--now`` where the running kernel has the region, and nothing is in its place."""
        running = wanted.argument in words(read(self.command_line) or "")
        if not running or file_system(self.host.folder) in (DAX, "tmpfs"):
            return []
        self.host.refuse_to_hide()
        return ["--now"]

    def _remarks(self, wanted: Enrolled) -> tuple[str, ...]:
        if wanted.argument in words(read(self.command_line) or ""):
            return ()
        return (
            f"in force after the next reboot: {wanted.region} is then no memory of the host's any "
            "more",
        )

    def _refuse_while_pending(self) -> None:
        if is_pending(self.handover):
            raise UsageError(
                f"guests wait to be brought back: a handover is pending ({self.handover})",
                hint="harness recover",
            )


def exec_start(command: Sequence[str]) -> str:
    """Return a command as systemd reads it: nothing in it is a variable or a specifier."""
    return " ".join(_quoted(word) for word in command)


def _quoted(word: str) -> str:
    word = word.replace("%", "%%").replace("$", "$$")
    if re.fullmatch(r"[A-Za-z0-9_./:=%$@+,-]+", word):
        return word
    return '"' + word.replace("\\", "\\\\").replace('"', '\\"') + '"'
