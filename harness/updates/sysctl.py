"""Kind ``sysctl``: kernel settings under /proc/sys, written directly and read back.

They last until the next boot; what makes them last longer is a file in /etc/sysctl.d.
"""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Literal

from harness.core.errors import ConfigError, UpdateFailed, UpdateOverran
from harness.core.settings import Name
from harness.core.timebase import Deadline
from harness.updates.protocol import THIS_HOST, Applied, Site, UpdateContext, UpdateSettings
from harness.updates.requirements import assignments, host_scope, require_this_host

PROC_SYS = Path("/proc/sys")
DEFAULT_EXPECTED_S = 1.0
_KEY = "update.sysctl"


class SysctlSettings(UpdateSettings):
    """``[update]`` of kind ``sysctl``."""

    kind: Literal["sysctl"] = "sysctl"
    sysctl: tuple[Name, ...] = ()
    """``key=value``."""


class SysctlUpdate:
    """Sets kernel settings; all of them are in force, or the old ones are."""

    kind = "sysctl"
    command: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    def __init__(
        self, settings: SysctlSettings, site: Site = THIS_HOST, root: Path = PROC_SYS
    ) -> None:
        if not settings.sysctl:
            hint = 'sysctl = ["vm.swappiness=10"] under [update]'
            raise ConfigError("an update of kind sysctl needs settings", key=_KEY, hint=hint)
        self._settings = settings
        self._site = site
        self.scope = host_scope(settings)
        self.preserves_memory = settings.preserves_memory
        self.expected_s, self.expected_from = settings.expectation(DEFAULT_EXPECTED_S, site)
        wanted = assignments(settings.sysctl, _KEY)
        self._wanted = {name: _normal(value) for name, value in wanted.items()}
        self._files = {name: _file(root, name) for name in wanted}
        self._before: dict[str, str] = {}
        self._abandoned = threading.Event()
        self._idle = threading.Event()
        self._idle.set()

    def check(self) -> None:
        """Every setting exists and can be written, and read, without which nothing can be undone.

        Raises ConfigError, or MissingCapability if we are not root.
        """
        require_this_host(self._settings.kind, self._site)
        for name, file in self._files.items():
            if not file.is_file():
                raise ConfigError(f"{name}: this kernel has no such setting", key=_KEY)
            # Root may write whatever has no w: the kernel then refuses it, in the pause.
            if not file.stat().st_mode & 0o222 or not os.access(file, os.W_OK):
                raise ConfigError(f"{name} cannot be written here", key=_KEY)
            try:
                file.read_text()
            except OSError as error:
                message = f"{name} cannot be read, so it could not be undone: {error.strerror}"
                raise ConfigError(message, key=_KEY) from error

    def prepare(self, context: UpdateContext, deadline: Deadline) -> None:
        """Remember the values that are in force. Raises UpdateFailed."""
        self._abandoned.clear()
        self._before = {name: self._read(name) for name in self._wanted}

    def apply(self, context: UpdateContext, deadline: Deadline) -> Applied:
        """Write the settings in the order given."""
        self._idle.clear()
        try:
            for name, value in self._wanted.items():
                if self._abandoned.is_set():
                    raise UpdateFailed(f"abandoned before {name} was set")
                if deadline.expired:
                    raise UpdateOverran(f"{name} was not set within {deadline.limit_s:.1f} s")
                self._write(name, value)
        finally:
            self._idle.set()
        changes = (f"{name} {self._before[name]} → {value}" for name, value in self._wanted.items())
        return Applied(0, detail=", ".join(changes))

    def verify(self, context: UpdateContext, deadline: Deadline) -> None:
        """Read them back: the kernel may have taken other values, or a program changed them."""
        self._expect(self._wanted)

    def rollback(self, context: UpdateContext, deadline: Deadline) -> None:
        """Write the old values, and read them back."""
        if not self._idle.wait(timeout=deadline.remaining_s()):
            raise UpdateFailed("a setting is still being written, so nothing was rolled back")
        changed = {n: v for n, v in reversed(self._before.items()) if self._read(n) != v}
        for name, value in changed.items():
            self._write(name, value)
        self._expect(self._before)

    def abandon(self) -> None:
        """Set nothing more."""
        self._abandoned.set()

    def _expect(self, values: dict[str, str]) -> None:
        for name, value in values.items():
            found = self._read(name)
            if found != value:
                raise UpdateFailed(f"{name} is {found!r}, not {value!r}")

    def _read(self, name: str) -> str:
        try:
            return _normal(self._files[name].read_text())
        except OSError as error:
            raise UpdateFailed(f"cannot read {name}: {error.strerror}") from error

    def _write(self, name: str, value: str) -> None:
        try:
            self._files[name].write_text(value + "\n")
        except OSError as error:
            raise UpdateFailed(f"cannot set {name} to {value!r}: {error.strerror}") from error


def _normal(value: str) -> str:
    """Several numbers come back with tabs between them."""
    return " ".join(value.split())


def _file(root: Path, name: str) -> Path:
    """``vm.swappiness`` or ``net/ipv4/conf/eth0.100/forwarding``, as sysctl(8) reads them."""
    parts = name.split("/") if "/" in name else name.split(".")
    if any(part in ("", ".", "..") for part in parts):
        raise ConfigError(f"{name!r} is no name of a setting", key=_KEY)
    return root.joinpath(*parts)
