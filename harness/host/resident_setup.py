"""What a host needs for guests whose QEMU can be replaced: set up, looked at, and taken away again.

A mount unit for the folder of their RAM, and, where AppArmor confines libvirt, rules in its own
place for local additions. A rule is a block between two lines that name us; what else is in such a
file stays as it is.
"""

from __future__ import annotations

import os
import re
import string
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from harness.core.errors import UsageError
from harness.host import ram_folder
from harness.host.mounts import IN_MEMORY, file_system
from harness.host.setup_steps import Change, Setup, entries, read

UNITS = Path("/etc/systemd/system")
APPARMOR = Path("/etc/apparmor.d")
#: What the kernel confines by now, a line each: ``libvirtd (enforce)``.
LOADED = Path("/sys/kernel/security/apparmor/profiles")
SIZE = re.compile(r"[1-9][0-9]*[kmgKMG]?|[1-9][0-9]?%")
BEGIN, END = "# harness setup-host: begin", "# harness setup-host: end"
#: Profile that confines → what is added to it.
_PROFILES = {
    "usr.sbin.libvirtd": "apparmor-libvirtd",
    "usr.sbin.virtqemud": "apparmor-libvirtd",
    "usr.lib.libvirt.virt-aa-helper": "apparmor-virt-aa-helper",
}
#: What systemd-escape leaves as it is.
_PLAIN = string.ascii_letters + string.digits + ":_."


@dataclass(frozen=True)
class Host:
    """Where this host keeps what is changed; tests give other places."""

    folder: Path
    """Of the guests' RAM."""
    units: Path = UNITS
    apparmor: Path = APPARMOR
    loaded: Path = LOADED

    @classmethod
    def this(cls) -> Host:
        """Return this host, by libvirt's configuration."""
        return cls(ram_folder.backing_folder())

    @property
    def unit(self) -> Path:
        """The mount unit of the folder; systemd wants it to be called so."""
        name = "-".join(_escaped(part) for part in self.folder.parts[1:])
        first = "\\x2e" if name.startswith(".") else name[:1]
        return self.units / f"{first}{name[1:]}.mount"

    def set_up(self, size: str) -> Setup:
        """Return what is missing for guests with ``size`` of RAM in all (``8G``, ``50%``).

        Raises UsageError where it would hide files or take a mount away that is not ours.
        """
        if SIZE.fullmatch(size) is None:
            raise UsageError(
                f"--resident is a whole number with K, M or G, or a percentage, not {size!r}",
                hint="8G, 50%",
            )
        if "harness-region" in (read(self.unit) or ""):
            raise UsageError(
                f"{self.folder} is on a region of memory that was set aside at boot",
                hint="--region, or first --undo",
            )
        unit = self._text("ram.mount", size)
        is_new = read(self.unit) != unit
        files = [Change(self.unit, unit, unit)] if is_new else []
        after: list[tuple[str, ...]] = []
        if is_new:
            self.refuse_to_hide()
            after.append(("systemctl", "daemon-reload"))
        if self._mounted():
            if is_new:
                after.append(("systemctl", "enable", self.unit.name))
                after.append(("mount", "-o", f"remount,size={size}", str(self.folder)))
        else:
            after.append(("systemctl", "enable", "--now", self.unit.name))
        return self.with_rules(files, after, wanted=True)

    def undo(self) -> Setup:
        """Return what takes it away again. Raises UsageError while guests have RAM in there."""
        files: list[Change] = []
        before: list[tuple[str, ...]] = []
        after: list[tuple[str, ...]] = []
        if read(self.unit) is not None:
            if self._mounted() and (names := entries(self.folder)):
                raise UsageError(
                    f"{self.folder} holds the RAM of guests: {', '.join(names)}",
                    hint="shut them down first",
                )
            before.append(("systemctl", "disable", "--now", self.unit.name))
            files.append(Change(self.unit, None, ""))
            after.append(("systemctl", "daemon-reload"))
        done = self.with_rules(files, after, wanted=False)
        return Setup(done.files, tuple(before), done.after)

    def missing(self) -> Iterator[str]:
        """Say what guests whose QEMU can be replaced lack here."""
        if not self._mounted():
            found = file_system(self.folder)
            yield f"{self.folder} is " + (f"on {found}, not in memory" if found else "not there")
        yield from self.without_rules()

    def without_rules(self) -> Iterator[str]:
        """Say which profile of AppArmor's has not the rules for guests whose QEMU is replaced."""
        for profile in self._profiles():
            local = self.apparmor / "local" / profile
            if self._rules(profile, read(local) or "", wanted=True) is not None:
                yield f"AppArmor: {local} has not the rules of harness"

    def _mounted(self) -> bool:
        return file_system(self.folder) in IN_MEMORY

    def refuse_to_hide(self) -> None:
        """Raise UsageError if a mount would hide files of guests."""
        if not self._mounted() and (names := entries(self.folder)):
            raise UsageError(
                f"{self.folder} holds files, of guests that run: {', '.join(names)}",
                hint="shut them down first",
            )

    def _installed(self) -> list[str]:
        return [name for name in _PROFILES if (self.apparmor / name).exists()]

    def _profiles(self) -> list[str]:
        """Those that confine something; one that is switched off is neither changed nor loaded."""
        names = self._installed()
        try:
            lines = self.loaded.read_text().splitlines()
        except PermissionError:  # only root may know: any may be
            return names
        except OSError:
            return []
        # Called after the program's path, or by its last part.
        loaded = {line.rpartition(" (")[0].rpartition("/")[2] for line in lines}
        return [name for name in names if name.rpartition(".")[2] in loaded]

    def with_rules(
        self, files: list[Change], after: list[tuple[str, ...]], *, wanted: bool
    ) -> Setup:
        """Return these steps and those for AppArmor's rules."""
        loaded = self._profiles()
        changed = []
        for profile in loaded if wanted else self._installed():
            local = self.apparmor / "local" / profile
            before = read(local) or ""
            content = self._rules(profile, before, wanted=wanted)
            if content is not None:
                shown = _block(self._text(_PROFILES[profile])) if wanted else ""
                files.append(Change(local, content, shown))
                changed += [str(self.apparmor / profile)] if profile in loaded else []
        if changed:
            after.append(("apparmor_parser", "--replace", *changed))
        return Setup(tuple(files), (), tuple(after))

    def _rules(self, profile: str, before: str, *, wanted: bool) -> str | None:
        """What a file of local additions is to be; None if it is that already."""
        without = _without_block(before)
        after = without + _block(self._text(_PROFILES[profile])) if wanted else without
        return None if after == before else after

    def _text(self, name: str, size: str = "") -> str:
        text = template(name).replace("@FOLDER@", str(self.folder))
        return text.replace("@OPTIONS@", ram_folder.OPTIONS).replace("@SIZE@", size)


def template(name: str) -> str:
    """Return a file of ``packaging/resident``, as it is installed with this program."""
    return resources.files("harness.host").joinpath("resident", name).read_text()


def _block(text: str) -> str:
    return f"{BEGIN}\n{text}{END}\n"


def _without_block(text: str) -> str:
    return re.sub(f"^{BEGIN}\n.*?^{END}\n", "", text, flags=re.MULTILINE | re.DOTALL)


def _escaped(part: str) -> str:
    """Return one part of a path as systemd-escape --path has it."""
    return "".join(chr(one) if chr(one) in _PLAIN else f"\\x{one:02x}" for one in os.fsencode(part))
