"""Kind ``command``: an executable and its arguments; no shell is involved."""

from __future__ import annotations

from typing import Literal

from harness.core.errors import ConfigError
from harness.core.programs import check_program
from harness.core.settings import Scope
from harness.core.timebase import Deadline
from harness.updates.protocol import THIS_HOST, Applied, Site, UpdateContext, UpdateSettings
from harness.updates.runner import Runner

DEFAULT_EXPECTED_S = 10.0


class CommandSettings(UpdateSettings):
    """``[update]`` of kind ``command``; each command is a list of words."""

    kind: Literal["command"] = "command"
    command: tuple[str, ...] = ()
    """The update: an executable and its arguments."""
    verify: tuple[str, ...] = ()
    """Proves that the update is in force, by its exit status."""
    rollback: tuple[str, ...] = ()
    """Takes the update back when it has failed or was abandoned."""


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
