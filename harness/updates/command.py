"""Kind ``command``: an executable and its arguments; no shell is involved."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from harness.core.errors import ConfigError
from harness.core.settings import Scope
from harness.core.timebase import Deadline
from harness.updates.protocol import THIS_HOST, Applied, Site, UpdateContext, UpdateSettings
from harness.updates.runner import Runner

DEFAULT_EXPECTED_S = 10.0


class CommandSettings(UpdateSettings):
    """``[update]`` of kind ``command``; each command is a list of words."""

    kind: Literal["command"] = "command"
    command: tuple[str, ...] = ()
    verify: tuple[str, ...] = ()
    rollback: tuple[str, ...] = ()


class CommandUpdate:
    """Runs a program of the user's; its exit status is the verdict."""

    kind = "command"
    warnings: tuple[str, ...] = ()

    def __init__(self, settings: CommandSettings, site: Site = THIS_HOST) -> None:
        if not settings.command:
            raise ConfigError(
                "an update of kind command needs a command",
                key="update.command",
                hint='--update "CMD ARGS", or command = ["CMD", "ARGS"] under [update]',
            )
        self.command = settings.command
        self.scope = settings.scope or Scope.HOST
        self.preserves_memory = settings.preserves_memory
        self.expected_s, self.expected_from = settings.expectation(DEFAULT_EXPECTED_S, site)
        self._verify = settings.verify
        self._rollback = settings.rollback
        self._runner = Runner()

    def check(self) -> None:
        """Find every program it may need. Raises ConfigError."""
        commands = (("command", self.command), ("verify", self._verify))
        for key, command in (*commands, ("rollback", self._rollback)):
            if command:
                check_program(command, f"update.{key}")

    def prepare(self, context: UpdateContext, deadline: Deadline) -> None:
        """Look for the programs again: an update domain before may have taken one away."""
        self._runner.reset()
        self.check()

    def apply(self, context: UpdateContext, deadline: Deadline) -> Applied:
        """Run the command until it ends or the deadline passes."""
        output = self._runner.run("update", self.command, context, deadline)
        return Applied(0, output)

    def verify(self, context: UpdateContext, deadline: Deadline) -> None:
        """Run the verify command, if there is one."""
        if self._verify:
            self._runner.run("verify", self._verify, context, deadline)

    def rollback(self, context: UpdateContext, deadline: Deadline) -> None:
        """End what is left of the command, wait until it is gone, run the rollback command."""
        self._runner.settle(deadline)
        if self._rollback:
            self._runner.run("rollback", self._rollback, context, deadline)

    def abandon(self) -> None:
        """End the command and all it started."""
        self._runner.abandon()


def _check_words(command: Sequence[str], key: str) -> None:
    if any("\0" in word for word in command):
        raise ConfigError("a word of a command cannot hold a NUL character", key=key)


def check_program(command: Sequence[str], key: str) -> None:
    """Raise ConfigError, naming ``key``, unless ``command`` can be started as it is."""
    _check_words(command, key)
    _check_executable(command[0], key)


def _check_executable(program: str, key: str) -> None:
    """Raise ConfigError unless we could start ``program``, and not everybody could change it."""
    found = shutil.which(program)
    path = Path(found or program)
    try:
        mode = path.stat().st_mode
    except OSError as error:
        reason = "no such program" if isinstance(error, FileNotFoundError) else error.strerror
        raise ConfigError(f"{program}: {reason}", key=key) from error
    if not stat.S_ISREG(mode):
        raise ConfigError(f"{program} is not a file", key=key)
    if found is None:
        raise ConfigError(f"{program} is not executable", key=key, hint=f"chmod +x {program}")
    if os.geteuid() == 0 and mode & stat.S_IWOTH:
        raise ConfigError(
            f"{program} can be changed by anybody, and would run as root",
            key=key,
            hint=f"chmod o-w {program}",
        )
    _check_interpreter(path, key)


def _check_interpreter(path: Path, key: str) -> None:
    """A script's ``#!`` line must name a program; after ``env`` that is the next word."""
    try:
        with open(path, "rb") as file:
            first = file.readline(256)
    except PermissionError:
        return  # a binary may be run without being read
    if not first.startswith(b"#!"):
        return
    words = [os.fsdecode(word) for word in first[2:].split()] or [""]
    missing = None if os.access(words[0], os.X_OK) else words[0]
    if Path(words[0]).name == "env" and len(words) > 1 and not words[1].startswith("-"):
        missing = missing or (None if shutil.which(words[1]) else words[1])
    if missing is not None:
        raise ConfigError(f"{path}: its interpreter {missing!r} is missing", key=key)
