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

    def prepare(self, context: UpdateContext, deadline: Deadline) -> None:
        """Find every program it may need, now. Raises ConfigError."""
        for key in ("command", "verify", "rollback"):
            command = self.command if key == "command" else getattr(self, f"_{key}")
            if command:
                _check_executable(command[0], f"update.{key}")

    def apply(self, context: UpdateContext, deadline: Deadline) -> Applied:
        """Run the command until it ends or the deadline passes."""
        output = context.run_dir / f"update-{quote(context.update_domain, safe='')}.log"
        returncode = self._execute(self.command, context, deadline, output)
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
        """Wait until nothing of an abandoned command is left, then run the rollback command."""
        if self._running is not None and not self._running.ended(deadline):
            raise UpdateFailed(f"processes of {self.command[0]} outlive it and cannot be ended")
        self._aftermath("rollback", self._rollback, context, deadline)

    def abandon(self) -> None:
        """End the command and all it started."""
        if self._running is not None:
            self._running.end()

    def _aftermath(
        self, what: str, command: Sequence[str], context: UpdateContext, deadline: Deadline
    ) -> None:
        if not command:
            return
        output = context.run_dir / f"{what}-{quote(context.update_domain, safe='')}.log"
        returncode = self._execute(command, context, deadline, output)
        if returncode is None:
            self.abandon()
            raise UpdateFailed(f"{what} command {command[0]} did not end in time")
        _expect_success(command, returncode, output)

    def _execute(
        self, command: Sequence[str], context: UpdateContext, deadline: Deadline, output: Path
    ) -> int | None:
        try:
            self._running = UpdateProcess(command, _environment(context, deadline), output)
        except OSError as error:
            raise UpdateFailed(f"cannot start {command[0]}: {error.strerror}") from error
        return self._running.wait(deadline)


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


def _check_executable(program: str, key: str) -> None:
    """Raises ConfigError unless ``program`` could be started by us, and only we could change it."""
    found = shutil.which(program)
    path = Path(found or program)
    if not path.exists():
        raise ConfigError(f"{program}: no such program", key=key)
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise ConfigError(f"{program} is not a file", key=key)
    if found is None:
        raise ConfigError(f"{program} is not executable", key=key, hint=f"chmod +x {program}")
    if os.geteuid() == 0 and status.st_mode & stat.S_IWOTH:
        raise ConfigError(
            f"{program} can be changed by anybody, and would run as root",
            key=key,
            hint=f"chmod o-w {program}",
        )
    _check_interpreter(path, key)


def _check_interpreter(path: Path, key: str) -> None:
    with open(path, "rb") as file:
        first = file.readline(256)
    if not first.startswith(b"#!"):
        return
    words = first[2:].split()
    interpreter = os.fsdecode(words[0]) if words else ""
    if not os.access(interpreter, os.X_OK):
        raise ConfigError(f"{path}: its interpreter {interpreter!r} is missing", key=key)
