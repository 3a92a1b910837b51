"""The kernel that is to come: its files, its command line, and how it is started."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from harness.core import tsc
from harness.core.errors import ConfigError, UpdateFailed
from harness.core.identity import boot_id
from harness.host.kernel import kexec
from harness.host.kernel.kexec import KernelImage
from harness.host.kernel.writable_again import Watch
from harness.host.region.place import words
from harness.results.journal.entries import Leaving

BOOT, MODULES = Path("/boot"), Path("/lib/modules")
#: What the boot loader adds, and what the new line has of its own.
_LEFT_OUT = ("BOOT_IMAGE", "init", "ro", "rw")


@dataclass(frozen=True)
class KernelFiles:
    """A kernel that is installed, with what it takes to start it."""

    image: KernelImage
    initrd: Path

    @classmethod
    def find(cls, kernel: Path, initrd: Path | None) -> KernelFiles:
        """Look for a kernel's parts. Raises ConfigError or UpdateFailed naming what is missing."""
        image = KernelImage.read(kernel)
        found = initrd or BOOT / f"initrd.img-{image.release}"
        if not found.is_file():
            raise ConfigError(
                f"{found}, the initrd of {image.release}, is not there", key="update.initrd"
            )
        if not (MODULES / image.release).is_dir():
            raise ConfigError(
                f"{MODULES / image.release} is not there: its modules are not installed",
                key="update.kernel",
            )
        return cls(image, found)


def command_line(line: str, launcher: Path) -> str:
    """Return ``line`` for a kernel that runs ``launcher`` as its init, on a root that is writable.

    Guests that wait need a place to write to before anything would have remounted the root.
    """
    kept = [one for one in words(line) if one.partition("=")[0] not in _LEFT_OUT]
    quoted = [f'"{one}"' if re.search(r"\s", one) else one for one in kept]
    return " ".join([*quoted, "rw", f"init={launcher}"])


def is_older(release: str, than: str) -> bool:
    """Return True if a release is older than another one, by the numbers that both begin with."""
    return _numbers(release) < _numbers(than)


def _numbers(release: str) -> list[int]:
    return [int(one) for one in re.split(r"[^\d.]", release, maxsplit=1)[0].split(".") if one]


class LoadedKernel:
    """Offers :class:`harness.updates.protocol.NextKernel`."""

    def __init__(self, release: str, plan: Path, first: tsc.Pair, watch: Watch) -> None:
        """``first``: the counter beside a steady clock, some time ago: it tells its pace."""
        self.release = release
        self.plan = str(plan)
        self._first = first
        self._watch = watch

    def sync(self) -> None:
        """See :class:`~harness.updates.protocol.NextKernel`."""
        os.sync()

    def leaving(self) -> Leaving:
        """See :class:`~harness.updates.protocol.NextKernel`."""
        pace = tsc.counts_per_ns(self._first, tsc.steady())
        if pace <= 0:
            raise UpdateFailed("the CPU's time stamp counter does not go on")
        now = tsc.realtime()
        return Leaving(
            self.release,
            boot_id(),
            tsc=now.counts,
            at_realtime_ns=now.clock_ns,
            width=now.width,
            counts_per_ns=pace,
        )

    def start(self) -> NoReturn:
        """See :class:`~harness.updates.protocol.NextKernel`."""
        kexec.start(self._watch)

    def close(self) -> None:
        """It is not started any more. Never raises."""
        self._watch.close()
