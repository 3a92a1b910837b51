"""Kind ``kernel-module``: load one, unload one, or change the parameters of one that is loaded."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from harness.core.errors import ConfigError, NotNeeded, UpdateFailed
from harness.core.settings import Name
from harness.core.timebase import Deadline
from harness.updates.protocol import THIS_HOST, Applied, Site, UpdateContext, UpdateSettings
from harness.updates.requirements import (
    ASK_S,
    ask,
    assignments,
    host_scope,
    require_program,
    require_this_host,
)
from harness.updates.runner import Runner

SYS_MODULE = Path("/sys/module")
DEFAULT_EXPECTED_S = 2.0
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]*")
_BUILTIN = "is built into this kernel"


class KernelModuleSettings(UpdateSettings):
    """``[update]`` of kind ``kernel-module``."""

    kind: Literal["kernel-module"] = "kernel-module"
    module: Name | None = None
    """Which module."""
    action: Literal["load", "unload", "parameter"] = "load"
    """What is done with it; ``parameter`` sets parameters of a loaded one."""
    parameters: tuple[Name, ...] = ()
    """``name=value``, of the module."""


@dataclass(frozen=True)
class _Seen:
    """What the kernel says of its modules before the update."""

    loaded: frozenset[str]
    parameters: dict[str, str]


class KernelModuleUpdate:
    """Changes one module; a rollback restores what was loaded, and its parameters."""

    kind = "kernel-module"
    command: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    def __init__(
        self, settings: KernelModuleSettings, site: Site = THIS_HOST, root: Path = SYS_MODULE
    ) -> None:
        if not settings.module:
            hint = 'module = "NAME" under [update]'
            message = "an update of kind kernel-module needs a module"
            raise ConfigError(message, key="update.module", hint=hint)
        if not _NAME.fullmatch(settings.module):
            raise ConfigError(f"{settings.module!r} is no name of a module", key="update.module")
        self._settings = settings
        self._site = site
        self._action = settings.action
        self._module = settings.module.replace("-", "_")  # as the kernel names it
        self._wanted = assignments(settings.parameters, "update.parameters")
        self.scope = host_scope(settings)
        self.preserves_memory = settings.preserves_memory
        self.expected_s, self.expected_from = settings.expectation(DEFAULT_EXPECTED_S, site)
        self._root = root
        self._home = root / self._module
        self._seen = _Seen(frozenset(), {})
        self._runner = Runner()

    def check(self) -> None:
        """The module and its parameters are there, and it is in the state that the action needs.

        Raises ConfigError or MissingCapability.
        """
        require_this_host(self._settings.kind, self._site)
        for program in ("modprobe", "modinfo", "rmmod"):
            require_program(program, "kmod")
        checks = {
            "load": self._check_load,
            "unload": self._check_unload,
            "parameter": self._check_set,
        }
        checks[self._action]()

    def _check_load(self) -> None:
        if self._home.exists():
            message = "is loaded already" if self._is_loaded() else _BUILTIN
            refused = ConfigError if self._wanted else NotNeeded
            raise refused(
                f"{self._module} {message}",
                key="update.module",
                hint='action = "parameter" changes a loaded one',
            )
        deadline = Deadline.after(ASK_S)
        ask(["modprobe", "--dry-run", self._module], deadline, refusal_is="update.module")
        said = ask(["modinfo", "--field", "parm", self._module], deadline)
        known = {line.partition(":")[0] for line in said.splitlines()}
        for name in self._wanted:
            if name not in known:
                hint = f"it has {', '.join(sorted(known))}" if known else "it has none"
                message = f"{self._module} has no parameter {name}"
                raise ConfigError(message, key="update.parameters", hint=hint)

    def _check_unload(self) -> None:
        if self._wanted:
            raise ConfigError("unloading takes no parameters", key="update.parameters")
        if not self._is_loaded():
            message = _BUILTIN if self._home.exists() else "is not loaded"
            raise ConfigError(f"{self._module} {message}", key="update.module")
        if not (self._home / "refcnt").exists():
            raise ConfigError("this kernel does not unload modules", key="update.action")
        users = _read(self._home / "refcnt")
        holders = ", ".join(sorted(path.name for path in (self._home / "holders").glob("*")))
        if users != "0" or holders:
            by = f" by {holders}" if holders else ""
            raise ConfigError(f"{self._module} is in use{by} ({users})", key="update.module")

    def _check_set(self) -> None:
        if not self._wanted:
            raise ConfigError("no parameter is named", key="update.parameters")
        if not self._home.is_dir():
            raise ConfigError(f"{self._module} is not loaded", key="update.module")
        for name in self._wanted:
            file = self._home / "parameters" / name
            if "/" in name or not file.is_file():
                message = f"{self._module} has no parameter {name} that can be seen"
                raise ConfigError(message, key="update.parameters")
            if not file.stat().st_mode & 0o222 or not os.access(file, os.W_OK):
                message = f"parameter {name} of {self._module} cannot be changed while it is loaded"
                raise ConfigError(message, key="update.parameters")
            if _value(file) is None:
                message = f"parameter {name} of {self._module} cannot be read, so not be undone"
                raise ConfigError(message, key="update.parameters")

    def prepare(self, context: UpdateContext, deadline: Deadline) -> None:
        """Look again, and remember what is loaded with which parameters."""
        self._runner.reset()
        self.check()
        self._seen = _Seen(self._all_loaded(), self._parameters())

    def apply(self, context: UpdateContext, deadline: Deadline) -> Applied:
        """Load, unload, or write the parameters."""
        said = [_given(name, value) for name, value in self._wanted.items()]
        if self._action == "parameter":
            self._runner.check_abandoned(f"{self._module} was changed")
            for name, value in self._wanted.items():
                self._write(name, value)
            return Applied(0, detail=f"{self._module}: {', '.join(said)}")
        command = ["rmmod", self._module]
        if self._action == "load":
            command = ["modprobe", self._module, *said]
        output = self._runner.run("update", command, context, deadline)
        return Applied(0, output, f"{self._module} {self._action}ed")

    def verify(self, context: UpdateContext, deadline: Deadline) -> None:
        """The kernel has it, or not; and its parameters are those that were given."""
        if self._action == "load" and not self._is_loaded():
            raise UpdateFailed(f"{self._module} is not loaded")
        if self._action == "unload" and self._is_loaded():
            raise UpdateFailed(f"{self._module} is loaded")
        for name, value in self._wanted.items():
            self._expect(name, value)

    def rollback(self, context: UpdateContext, deadline: Deadline) -> None:
        """Restore: unload what was loaded, load what was unloaded, write the old parameters."""
        self._runner.settle(deadline)
        before = self._seen
        if self._action == "load":
            self._unload_new(context, deadline)
        elif self._module in before.loaded and not self._is_loaded():
            said = [_given(name, value) for name, value in before.parameters.items()]
            command = ["modprobe", self._module, *said]
            self._runner.run("rollback", command, context, deadline)
        if self._action == "parameter":
            for name in self._wanted:
                self._write(name, before.parameters[name])
        for name, value in before.parameters.items() if self._is_loaded() else ():
            self._expect(name, value)

    def abandon(self) -> None:
        """End what runs; a module that is being loaded then is taken away by the rollback."""
        self._runner.abandon()

    def _unload_new(self, context: UpdateContext, deadline: Deadline) -> None:
        """The module, and what it brought along: dependencies after what needs them."""
        said = ask(["modprobe", "--show-depends", "--ignore-install", self._module], deadline)
        files = [line.split()[1] for line in said.splitlines() if line.startswith("insmod ")]
        names = [Path(file).name.partition(".")[0].replace("-", "_") for file in files]
        loaded = self._all_loaded()
        for name in reversed(names):
            if name in loaded - self._seen.loaded:
                self._runner.run("rollback", ["rmmod", name], context, deadline)

    def _is_loaded(self) -> bool:
        """What is built in has a folder too, but no state."""
        return _read(self._home / "initstate") == "live"

    def _all_loaded(self) -> frozenset[str]:
        return frozenset(path.parent.name for path in self._root.glob("*/initstate"))

    def _parameters(self) -> dict[str, str]:
        """Those that can be seen and given again."""
        values = {path.name: _value(path) for path in (self._home / "parameters").glob("*")}
        return {name: value for name, value in values.items() if value is not None}

    def _write(self, name: str, value: str) -> None:
        try:
            (self._home / "parameters" / name).write_text(value + "\n")
        except OSError as error:
            message = f"cannot set {name} of {self._module} to {value!r}: {error.strerror}"
            raise UpdateFailed(message) from error

    def _expect(self, name: str, value: str) -> None:
        file = self._home / "parameters" / name
        if not file.exists():
            return  # one that the kernel does not show
        found = _value(file)
        if _normal(found) != _normal(value):
            raise UpdateFailed(f"parameter {name} of {self._module} is {found!r}, not {value!r}")


def _given(name: str, value: str) -> str:
    """As the kernel reads it: it splits its parameters at spaces that are not quoted."""
    return f'{name}="{value}"' if " " in value else f"{name}={value}"


def _normal(value: str | None) -> str | None:
    """Y and 1 are the same to the kernel."""
    return {"y": "1", "n": "0"}.get(value.lower(), value) if value is not None else None


def _read(file: Path) -> str | None:
    try:
        return file.read_text().strip()
    except OSError:
        return None


def _value(file: Path) -> str | None:
    """A parameter's value; None where it cannot be read or has none to give again."""
    value = _read(file)
    return None if value in (None, "", "(null)") else value
