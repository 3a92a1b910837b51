"""Kind ``command``: an executable and its arguments; no shell is involved."""

from __future__ import annotations

import json
import os
import shutil
import stat
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

from harness.errors import ConfigError, UpdateFailed, UpdateOverran
from harness.timebase import Deadline
from harness.updates.process import UpdateProcess
from harness.updates.protocol import Applied, Scope, UpdateContext, UpdateSettings

DEFAULT_EXPECTED_S = 10.0


class CommandUpdate:
    """Runs a program of the user's; its exit status is the verdict."""

    kind = "command"

    def __init__(self, settings: UpdateSettings) -> None:
        if not settings.command:
            raise ConfigError(
                "an update of kind command needs a command",
                key="update.command",
                hint='--update "CMD ARGS", or command = ["CMD", "ARGS"] under [update]',
            )
        self.command = settings.command
        self.scope = settings.scope or Scope.HOST
        self.preserves_memory = settings.preserves_memory
        self.expected_s = settings.expected_s or DEFAULT_EXPECTED_S
        self._verify = settings.verify
        self._rollback = settings.rollback
        self._running: UpdateProcess | None = None
        self._abandoned = False

    def check(self) -> None:
        """Find every program it may need. Raises ConfigError."""
        commands = (("command", self.command), ("verify", self._verify))
        for key, command in (*commands, ("rollback", self._rollback)):
            if command:
                check_program(command, f"update.{key}")

    def prepare(self, context: UpdateContext, deadline: Deadline) -> None:
        """Look for the programs again: an update domain before may have taken one away."""
        self._running, self._abandoned = None, False
        self.check()

    def apply(self, context: UpdateContext, deadline: Deadline) -> Applied:
        """Run the command until it ends or the deadline passes."""
        output = context.run_dir / f"update-{quote(context.update_domain, safe='')}.log"
        if self._abandoned:
            raise UpdateFailed(f"{self.command[0]} was abandoned before it was started")
        process = self._start("apply", self.command, context, deadline, output)
        if self._abandoned:  # between the two lines above, when there was nothing to end yet
            process.end()
        returncode = process.wait(deadline)
        if returncode is None:
            self.abandon()
            raise UpdateOverran(
                f"{self.command[0]} did not end within {deadline.limit_s:.1f} s and was ended",
                hint="give it a larger --budget, or make it faster",
            )
        _expect_success(self.command, returncode, output)
        return Applied(returncode, output)

    def verify(self, context: UpdateContext, deadline: Deadline) -> None:
        """Run the verify command, if there is one."""
        self._aftermath("verify", self._verify, context, deadline)

    def rollback(self, context: UpdateContext, deadline: Deadline) -> None:
        """End what is left of the command, wait until it is gone, run the rollback command."""
        if self._running is not None:
            self._running.end()
            if survivors := self._running.survivors(deadline):
                pids = ", ".join(str(pid) for pid in sorted(survivors))
                raise UpdateFailed(
                    f"processes of {self.command[0]} could not be ended, so nothing was rolled "
                    f"back: {pids}",
                    hint="end them by hand, then undo what the update did",
                )
        self._aftermath("rollback", self._rollback, context, deadline)

    def abandon(self) -> None:
        """End the command and all it started."""
        self._abandoned = True
        if self._running is not None:
            self._running.end()

    def _aftermath(
        self, what: str, command: Sequence[str], context: UpdateContext, deadline: Deadline
    ) -> None:
        if not command:
            return
        output = context.run_dir / f"{what}-{quote(context.update_domain, safe='')}.log"
        process = self._start(what, command, context, deadline, output)
        returncode = process.wait(deadline)
        if returncode is None:
            process.end()
            raise UpdateFailed(f"{what} command {command[0]} did not end in time")
        _expect_success(command, returncode, output)

    def _start(
        self,
        stage: str,
        command: Sequence[str],
        context: UpdateContext,
        deadline: Deadline,
        output: Path,
    ) -> UpdateProcess:
        environment, mark = _environment(context, deadline), context.mark(stage)
        try:
            self._running = UpdateProcess(command, environment, mark, output)
        except OSError as error:
            raise UpdateFailed(f"cannot start {command[0]}: {error.strerror}") from error
        return self._running


def _environment(context: UpdateContext, deadline: Deadline) -> dict[str, str]:
    return {
        **os.environ,
        "HARNESS_RUN_ID": context.run_id,
        "HARNESS_RUN_DIR": str(context.run_dir),
        "HARNESS_UPDATE_DOMAIN": context.update_domain,
        "HARNESS_GUESTS": json.dumps(context.guests),  # names are data: no separator is safe
        "HARNESS_BUDGET_S": f"{context.budget_s:g}",
        "HARNESS_DEADLINE_S": f"{deadline.remaining_s():.3f}",
    }


def _expect_success(command: Sequence[str], returncode: int, output: Path) -> None:
    if returncode == 0:
        return
    how = f"ended with status {returncode}" if returncode > 0 else f"died of signal {-returncode}"
    raise UpdateFailed(
        f"{command[0]} {how}", returncode=returncode, hint=f"its output is in {output}"
    )


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
