"""What a package transaction would change, and what that means for paused guests.

Read from apt's simulation. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from harness.updates import reboot

_LINE = re.compile(
    r"(?P<verb>Inst|Remv|Purg) (?P<name>\S+)"
    r"(?: \[(?P<before>[^\]]+)\])?(?: \((?P<after>\S+) [^)]*\[(?P<arch>[^\]]+)\]\))?"
)
_QEMU = re.compile(r"qemu-(system|kvm|block)(-.*)?")
_LIBVIRT_DAEMON = re.compile(r"libvirt-daemon(-system|-driver-qemu)?")


@dataclass(frozen=True)
class Change:
    """One package; a version is None where it is not installed."""

    name: str
    """With its architecture where it is not the host's: ``libc6:i386``."""
    before: str | None
    after: str | None
    arch: str | None = None

    @property
    def package(self) -> str:
        """The name alone."""
        return self.name.partition(":")[0]

    def __str__(self) -> str:
        """``tiny 1.0 → 2.0``."""
        if self.after is None:
            return f"{self.name} {self.before} removed"
        if self.before is None:
            return f"{self.name} {self.after} new"
        if self.before == self.after:
            return f"{self.name} {self.after} again"
        return f"{self.name} {self.before} → {self.after}"


def parse(simulation: str) -> tuple[Change, ...]:
    """The changes that ``apt-get --simulate`` lists, in its order."""
    found = (_LINE.match(line) for line in simulation.splitlines())
    return tuple(
        Change(line["name"], line["before"], line["after"], line["arch"]) for line in found if line
    )


def refusal(changes: Sequence[Change], files: Mapping[Change, Sequence[str]]) -> str | None:
    """Why this cannot be done under paused guests; None if it can.

    ``files`` are the paths that a change brings, of those whose package is here.
    """
    for change in changes:
        if found := _takes_a_reboot(change, files.get(change, ())):
            return (
                f"{change}: {found} takes a reboot of the host, which does not preserve the "
                "guests' memory"
            )
        if change.after is None and _LIBVIRT_DAEMON.fullmatch(change.package):
            return f"{change}: without libvirt no guest could be resumed"
    return None


def _takes_a_reboot(change: Change, paths: Sequence[str]) -> str | None:
    if what := reboot.by_name(change.package):
        return what
    if told := reboot.by_files(paths):
        what, path = told
        return f"{what} ({path})"
    return None


def remarks(changes: Sequence[Change]) -> Iterator[str]:
    """What a person should know of a transaction that can be done."""
    qemu = [change for change in changes if _QEMU.fullmatch(change.package)]
    if any(change.after is None for change in qemu):
        yield (
            "QEMU is removed: guests that run go on running, and none can be started until it is "
            "installed again"
        )
    elif any(change.before is not None for change in qemu):
        yield (
            "QEMU is replaced: guests that run stay in the QEMU they were started with, until they "
            "are shut down and started again"
        )
    if any(_LIBVIRT_DAEMON.fullmatch(change.package) for change in changes):
        yield (
            "libvirt's daemon is replaced, and restarted by its package, while guests are paused; "
            "harness connects again (kind libvirt also proves that it answers)"
        )
