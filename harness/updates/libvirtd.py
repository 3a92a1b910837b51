"""Kind ``libvirt``: renew libvirt while guests are paused, and restart its daemon.

The guests' QEMUs go on without it, and every connection to it is lost; the window's own is opened
again by the driver. Without a daemon no program can resume a guest, so ``apply`` itself puts the
old packages back if the new daemon does not answer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import closing, suppress
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from harness.core.errors import (
    ConfigError,
    HarnessError,
    HypervisorError,
    MissingCapability,
    UpdateFailed,
)
from harness.core.timebase import Deadline, NotYet, wait_for
from harness.host.lifecycle import GuestState
from harness.host.protocol import Hypervisor
from harness.updates.apt import QUIET, AptSettings, AptTransaction
from harness.updates.protocol import THIS_HOST, Applied, Site, UpdateContext
from harness.updates.requirements import (
    ASK_S,
    ask,
    host_scope,
    require_program,
    require_this_host,
)
from harness.updates.runner import Runner

DEFAULT_EXPECTED_S = 15.0
#: After a failed transaction: its package may be starting the daemon still.
_LOOK_S = 3.0
#: The daemon for QEMU: one of its own in newer installations, else the one for everything.
SERVICES = ("virtqemud.service", "libvirtd.service")

Opener = Callable[[str, Deadline], Hypervisor]


def _open(uri: str, deadline: Deadline) -> Hypervisor:
    from harness.host.driver import LibvirtHypervisor  # not for those who use another kind

    return LibvirtHypervisor.open(uri, deadline)


class LibvirtSettings(AptSettings):
    """``[update]`` of kind ``libvirt``; without packages the daemon is only restarted."""

    kind: Literal["libvirt"] = "libvirt"


class LibvirtUpdate:
    """Installs libvirt's packages, if any are named, and restarts the daemon."""

    kind = "libvirt"
    command: tuple[str, ...] = ()

    def __init__(
        self, settings: LibvirtSettings, site: Site = THIS_HOST, opener: Opener = _open
    ) -> None:
        self._settings = settings
        self._site = site
        self.scope = host_scope(settings)
        self.preserves_memory = settings.preserves_memory
        self.expected_s, self.expected_from = settings.expectation(DEFAULT_EXPECTED_S, site)
        self._transaction = AptTransaction(settings, site) if settings.packages else None
        if self._transaction is None:
            _refuse_apt_keys(settings)
        self._open = opener
        self._runner = Runner()
        self._service = ""
        self._pid = ""

    @property
    def warnings(self) -> tuple[str, ...]:
        """What changes, and that others lose their connections too."""
        others = f"{self._service} is restarted: every other connection to it is lost"
        return (others, *(self._transaction.warnings if self._transaction else ()))

    def check(self) -> None:
        """Find the daemon's service; simulate the transaction.

        Raises UsageError, MissingCapability or UpdateFailed.
        """
        require_this_host(self._settings.kind, self._site)
        require_program("systemctl", "systemd")
        if urlsplit(self._site.uri).path != "/system":
            message = f"{self._site.uri} is not the daemon of this host (qemu:///system)"
            raise ConfigError(message, key="update.kind")
        self._service = _active_service(Deadline.after(ASK_S))
        if self._transaction is not None:
            self._transaction.check()
            if not any(c.package.startswith("libvirt") for c in self._transaction.changes):
                message = f"none of it is libvirt: {self._transaction.summary}"
                raise ConfigError(message, key="update.packages", hint='kind = "packages"')

    def prepare(self, context: UpdateContext, deadline: Deadline) -> None:
        """Download, simulate again, and remember which process is the daemon."""
        self._runner.reset()
        if self._transaction is not None:
            self._transaction.prepare(context, deadline)
        self._pid = _main_pid(self._service, deadline)

    def apply(self, context: UpdateContext, deadline: Deadline) -> Applied:
        """Install, restart, and see the daemon answer; else bring the old one back at once."""
        try:
            output = self._change(context, deadline)
        except UpdateFailed:
            if not self._answers(deadline.sooner(_LOOK_S)):
                self._bring_back(context, deadline)
            raise
        said = [self._transaction.summary] if self._transaction else []
        if not self._settings.simulate:
            half = deadline.sooner(deadline.remaining_s() / 2)  # the rest is for bringing it back
            if not self._answers(half, renewed=True):
                self._bring_back(context, deadline)
                raise UpdateFailed(f"{self._service} does not answer")
            said.append(f"{self._service} restarted")
        return Applied(0, output, ", ".join(said))

    def verify(self, context: UpdateContext, deadline: Deadline) -> None:
        """It is another process, it answers, it knows the guests; dpkg is healthy."""
        if self._transaction is not None:
            self._transaction.verify(deadline)
        if self._settings.simulate:
            return
        if _main_pid(self._service, deadline) in (self._pid, "0"):
            raise UpdateFailed(f"{self._service} was not restarted")
        with closing(self._connected(deadline)) as hypervisor:
            for name in context.guests:
                _expect_known(hypervisor, name, deadline)

    def rollback(self, context: UpdateContext, deadline: Deadline) -> None:
        """The packages before, and a daemon that answers."""
        self._runner.settle(deadline)
        self._restore(context, deadline)

    def abandon(self) -> None:
        """End apt and dpkg; what systemd was asked to do it goes on doing."""
        self._runner.abandon()

    def _change(self, context: UpdateContext, deadline: Deadline) -> Path | None:
        """Install, and ask for the restart if the package has not done it; where the output is."""
        output = None
        if self._transaction is not None:
            output = self._transaction.install(self._runner, context, deadline)
        if not self._settings.simulate and _main_pid(self._service, deadline) == self._pid:
            # Not waited for here: one that hangs as it starts would take all the time there is.
            command = ["systemctl", "restart", "--no-block", self._service]
            output = self._runner.run("update", command, context, deadline, QUIET)
        return output

    def _bring_back(self, context: UpdateContext, deadline: Deadline) -> None:
        """The old daemon, now, unless the window has given the update up by itself.

        One that hangs takes no notice of TERM, for which systemd would wait a minute and a half, so
        it is killed; its main process only, because guests may be children of the service.
        """
        if self._runner.abandoned:
            return
        command = ["systemctl", "kill", "--kill-who=main", "--signal=KILL", self._service]
        with suppress(UpdateFailed):  # there is nothing to kill
            self._runner.run("rollback", command, context, deadline, QUIET)
        self._restore(context, deadline)

    def _restore(self, context: UpdateContext, deadline: Deadline) -> None:
        if self._transaction is not None:
            self._transaction.rollback(self._runner, context, deadline)
        verb = "restart" if self._transaction and not self._settings.simulate else "start"
        # A daemon that failed several times in a row is not started again until that is forgotten.
        for words in (("reset-failed", self._service), (verb, self._service)):
            self._runner.run("rollback", ["systemctl", *words], context, deadline, QUIET)
        if not self._answers(deadline):
            raise UpdateFailed(
                f"{self._service} does not answer after the rollback",
                hint=f"systemctl status {self._service}",
            )

    def _answers(self, deadline: Deadline, *, renewed: bool = False) -> bool:
        """Whether it does by then; ``renewed``: as another process than before."""
        try:
            self._connected(deadline, renewed=renewed).close()
        except HarnessError:
            return False
        return True

    def _connected(self, deadline: Deadline, *, renewed: bool = False) -> Hypervisor:
        """A new connection, tried until the deadline, or until systemd has given the daemon up."""

        def attempt() -> Hypervisor:
            if renewed:
                now = _properties(self._service, deadline)
                if _pid_in(now) in (self._pid, "0"):
                    _expect_a_chance(self._service, now)
                    raise NotYet("it has not been restarted yet")
            try:
                return self._open(self._site.uri, deadline)
            except HypervisorError as error:
                _expect_a_chance(self._service, _properties(self._service, deadline))
                raise NotYet(str(error)) from error

        return wait_for(attempt, what="asking libvirt", deadline=deadline)


def _refuse_apt_keys(settings: LibvirtSettings) -> None:
    """Without packages there is no transaction; a key that would do nothing is a mistake."""
    for key in ("repository", "previous", "hold", "reinstall", "simulate"):
        if getattr(settings, key):
            raise ConfigError(
                "needs packages",
                key=f"update.{key}",
                hint='packages = ["libvirt-daemon"]; without, the daemon is only restarted',
            )


def _active_service(deadline: Deadline) -> str:
    for service in SERVICES:
        if _main_pid(service, deadline) != "0":
            return service
    raise MissingCapability(
        "libvirt-service",
        f"systemd runs none of {', '.join(SERVICES)}",
        hint="start libvirt by systemd, or restart it by kind command",
    )


def _main_pid(service: str, deadline: Deadline) -> str:
    return _pid_in(_properties(service, deadline))


def _pid_in(properties: Mapping[str, str]) -> str:
    return properties.get("MainPID", "0")


def _expect_a_chance(service: str, now: Mapping[str, str]) -> None:
    """Raises UpdateFailed if systemd has given the daemon up, and means to start it no more."""
    if now.get("ActiveState") == "failed" and not now.get("Job"):
        raise UpdateFailed(f"{service} has failed")


def _properties(service: str, deadline: Deadline) -> dict[str, str]:
    """What systemd says of it; ``Job`` is there while something is to be done with it."""
    said = ask(["systemctl", "show", "--property=MainPID,ActiveState,Job", service], deadline)
    return dict(line.split("=", 1) for line in said.splitlines() if "=" in line)


def _expect_known(hypervisor: Hypervisor, name: str, deadline: Deadline) -> None:
    info = hypervisor.find(name, deadline)
    if info.state.state is not GuestState.RUNNING:
        raise UpdateFailed(f"libvirt says that {name} is {info.state} now")
