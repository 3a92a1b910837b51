"""How to get into one guest: by SSH at one of its addresses, or by its guest agent."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from harness.core.errors import (
    DeadlineExpired,
    HarnessError,
    HostKeyRejected,
    ProbeError,
    ShellUnreachable,
    WrongGuest,
)
from harness.core.settings import Access, GuestSection, SshSection
from harness.core.timebase import Deadline
from harness.guest.agent_shell import AgentShell
from harness.guest.protocol import Connector, GuestShell
from harness.host.protocol import GuestAddress, GuestInfo, Hypervisor
from harness.maintenance.agent import HypervisorChannel

T = TypeVar("T")

#: The origin of an address that a person has named.
_CONFIGURED = "configuration"
#: The address of a guest that is reached at none.
_AGENT = "guest agent"
#: Of the time there is, what SSH may use up where the agent comes after it.
_SSH_PART = 0.5
#: What says that a login by SSH does not work, or does not lead into the guest.
_NO_LOGIN = (ShellUnreachable, HostKeyRejected, WrongGuest, ProbeError, DeadlineExpired)


@dataclass(frozen=True)
class Login:
    """How to get into one guest: the first time, and again where the connection broke."""

    info: GuestInfo
    section: GuestSection
    ssh: SshSection
    """What holds for all guests; ``section.ssh`` comes first."""
    hypervisor: Hypervisor
    connector: Connector
    access: Access = "ssh"
    """What holds for all guests; ``section.access`` comes first."""

    @property
    def sudo(self) -> bool:
        """Whether the user may become root by ``sudo -n``, as configured."""
        own = self.section.ssh
        return own.sudo if "sudo" in own.model_fields_set else self.ssh.sudo

    @property
    def channel(self) -> HypervisorChannel:
        """The way to the guest's agent."""
        return HypervisorChannel(self.hypervisor, self.info.uuid, self.info.name)

    def enter(self, deadline: Deadline, look: Callable[[GuestAddress, GuestShell], T]) -> T:
        """Return what ``look`` makes of the address where the guest answers, and an open shell.

        By SSH, by the guest agent, or by whichever of the two works, SSH first. The shell is
        closed if ``look`` raises. Raises ShellUnreachable, HostKeyRejected, WrongGuest or
        DeadlineExpired.
        """
        access = self.section.access or self.access
        if access == "agent":
            return self._by_agent(deadline, look, "access = agent")
        if access == "ssh":
            return self._by_ssh(deadline, look)
        try:
            return self._by_ssh(deadline.sooner(deadline.remaining_s() * _SSH_PART), look)
        except _NO_LOGIN as error:
            if deadline.expired:
                raise
            refused = error
        try:
            return self._by_agent(deadline, look, f"no login by SSH: {refused.message}")
        except (ShellUnreachable, DeadlineExpired) as error:
            refused.message = f"{refused.message}; nor by the guest agent: {error.message}"
            raise refused from error

    def _by_agent(
        self, deadline: Deadline, look: Callable[[GuestAddress, GuestShell], T], why: str
    ) -> T:
        shell = AgentShell.open(self.channel, deadline)
        try:
            return look(GuestAddress(_AGENT, why), shell)
        except BaseException:
            shell.close()
            raise

    def _by_ssh(self, deadline: Deadline, look: Callable[[GuestAddress, GuestShell], T]) -> T:
        """The guest's addresses are tried in order: configuration, guest agent, DHCP lease, ARP.

        Where ``look`` raises WrongGuest, the next one is.
        """
        refusals: list[HarnessError] = []
        tried: list[GuestAddress] = []
        for found in self.addresses(deadline):
            tried.append(found)
            try:
                shell = self.connector.open(
                    self.info.name, found.address, self.ssh, self.section.ssh, deadline
                )
            except (ShellUnreachable, HostKeyRejected) as error:
                refusals.append(error)
                continue
            except DeadlineExpired as error:
                # No answer there; the next address may have time left, unless all is over.
                refusals.append(error)
                if deadline.expired:
                    break
                continue
            try:
                return look(found, shell)
            except WrongGuest as error:
                shell.close()
                refusals.append(error)
            except BaseException:
                shell.close()
                raise
        raise with_origins(most_telling(refusals), tried)

    def addresses(self, deadline: Deadline) -> Sequence[GuestAddress]:
        """Return where the guest may be reached, best first. Raises ShellUnreachable if nowhere."""
        configured = self.section.address or self.connector.configured_address(self.info.name)
        if configured:
            return [GuestAddress(configured, _CONFIGURED)]
        found = self.hypervisor.addresses(self.info.uuid, deadline)
        if not found:
            raise ShellUnreachable(
                "has no known address: none configured, and none from guest agent, DHCP or ARP",
                guest=self.info.name,
                hint='give it one: [[guest]] name = "…" address = "…" in harness.toml',
            )
        return found


def with_origins(error: HarnessError, tried: Sequence[GuestAddress]) -> HarnessError:
    """Say where addresses came from that no person has named."""
    found = [one for one in tried if one.origin != _CONFIGURED]
    if found:
        told = ", ".join(f"{one.address} ({one.origin})" for one in found)
        error.message = f"{error.message}; tried: {told}"
    return error


def most_telling(refusals: Sequence[HarnessError]) -> HarnessError:
    """A stranger who answers says more than a refused host key, that more than silence."""
    for kind in (WrongGuest, HostKeyRejected):
        for error in refusals:
            if isinstance(error, kind):
                return error
    return refusals[0]
