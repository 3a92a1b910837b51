"""Kind ``packages``: an apt transaction while guests are paused."""

from __future__ import annotations

from typing import Literal

from harness.core.errors import ConfigError
from harness.core.timebase import Deadline
from harness.updates.apt import AptSettings, AptTransaction
from harness.updates.protocol import THIS_HOST, Applied, Site, UpdateContext
from harness.updates.requirements import host_scope, require_this_host
from harness.updates.runner import Runner

DEFAULT_EXPECTED_S = 15.0


class PackagesSettings(AptSettings):
    """``[update]`` of kind ``packages``."""

    kind: Literal["packages"] = "packages"


class PackagesUpdate:
    """Installs, upgrades or removes packages; what needs a reboot is refused."""

    kind = "packages"
    command: tuple[str, ...] = ()

    def __init__(self, settings: PackagesSettings, site: Site = THIS_HOST) -> None:
        if not settings.packages:
            raise ConfigError(
                "an update of kind packages needs packages",
                key="update.packages",
                hint='packages = ["./agent_2.0_amd64.deb"] under [update]',
            )
        self._settings = settings
        self._site = site
        self.scope = host_scope(settings)
        self.preserves_memory = settings.preserves_memory
        self.expected_s, self.expected_from = settings.expectation(DEFAULT_EXPECTED_S, site)
        self._transaction = AptTransaction(settings, site)
        self._runner = Runner()

    @property
    def warnings(self) -> tuple[str, ...]:
        """What changes, and what that means."""
        return self._transaction.warnings

    def check(self) -> None:
        """Simulate the transaction. Raises UsageError, MissingCapability or UpdateFailed."""
        require_this_host(self._settings.kind, self._site)
        self._transaction.check()

    def prepare(self, context: UpdateContext, deadline: Deadline) -> None:
        """Download, and simulate again."""
        self._runner.reset()
        self._transaction.prepare(context, deadline)

    def apply(self, context: UpdateContext, deadline: Deadline) -> Applied:
        """The transaction as it was planned."""
        output = self._transaction.install(self._runner, context, deadline)
        return Applied(0, output, self._transaction.summary)

    def verify(self, context: UpdateContext, deadline: Deadline) -> None:
        """Check that dpkg is healthy and that the versions are the planned ones."""
        self._transaction.verify(deadline)

    def rollback(self, context: UpdateContext, deadline: Deadline) -> None:
        """The versions before, once apt and dpkg are gone."""
        self._runner.settle(deadline)
        self._transaction.rollback(self._runner, context, deadline)

    def abandon(self) -> None:
        """End apt and dpkg."""
        self._runner.abandon()
