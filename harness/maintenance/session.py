"""One guest of a run, with everything that must be open before the pause and stay open after it.

That is its shell, what is known about it, and the sampler of its clock.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from harness.checks.evidence import Observed
from harness.checks.probes.group import GuestProbes
from harness.clock.policy import CorrectionPolicy
from harness.clock.sampling import Sampler
from harness.clock.target import AgentTime, Reach
from harness.core.errors import (
    DeadlineExpired,
    HarnessError,
    HostKeyRejected,
    PlanError,
    ProbeError,
    ShellUnreachable,
    WrongGuest,
)
from harness.core.records import ClockReading, IdentityRecord
from harness.core.settings import ClockSection, GuestSection, SshSection
from harness.core.timebase import SYSTEM_CLOCK, Clock, Deadline, wait_for
from harness.guest.facts import GuestFacts, gather
from harness.guest.protocol import Connector, GuestShell
from harness.host.protocol import GuestAddress, GuestInfo, Hypervisor, ProcessIdentity
from harness.maintenance.identity import Found, identify

T = TypeVar("T")

#: The origin of an address that a person has named.
_CONFIGURED = "configuration"
#: Allowed |offset| where the configuration names none; see docs/clocks.md.
DEFAULT_TOLERANCE_S = {"python3": 0.010, "perl": 0.010, "powershell": 0.010, "sh": 0.020}
#: Where the shell must start a process to read the clock.
COARSE_TOLERANCE_S = 0.050


@dataclass(frozen=True)
class GuestAgentClock:
    """One guest's clock by way of its guest agent (:class:`harness.clock.target.AgentClock`)."""

    hypervisor: Hypervisor
    uuid: str
    clock: Clock = SYSTEM_CLOCK

    def get(self, deadline: Deadline) -> AgentTime:
        """What the agent says, and when it was asked."""
        sent_ns = self.clock.realtime_ns()
        guest_ns = self.hypervisor.guest_time_ns(self.uuid, deadline)
        return AgentTime(sent_ns, guest_ns, self.clock.realtime_ns())

    def set(self, realtime_ns: int, deadline: Deadline) -> None:
        """Let the agent set the clock."""
        self.hypervisor.set_guest_time(self.uuid, realtime_ns, deadline)


@dataclass(frozen=True)
class Login:
    """How to log in to one guest: the first time, and again where the connection broke."""

    info: GuestInfo
    section: GuestSection
    ssh: SshSection
    """What holds for all guests; ``section.ssh`` comes first."""
    hypervisor: Hypervisor
    connector: Connector

    @property
    def sudo(self) -> bool:
        """Whether the user may become root by ``sudo -n``, as configured."""
        own = self.section.ssh
        return own.sudo if "sudo" in own.model_fields_set else self.ssh.sudo

    def enter(self, deadline: Deadline, look: Callable[[GuestAddress, GuestShell], T]) -> T:
        """Return what ``look`` makes of the address where the guest answers, and an open shell.

        The guest's addresses are tried in order: configuration, guest agent, DHCP lease, ARP;
        where ``look`` raises WrongGuest, the next one is. The shell is closed if ``look`` raises.
        Raises ShellUnreachable, HostKeyRejected, WrongGuest or DeadlineExpired.
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


@dataclass
class GuestSession:
    """An open connection to one guest; close it when the run is over."""

    login: Login
    address: str
    shell: GuestShell
    facts: GuestFacts
    sampler: Sampler
    tolerance_s: float
    reach: Reach
    settings: ClockSection
    """What may be done about its clock."""
    identity: IdentityRecord
    """What binds the login to the guest."""
    probes: GuestProbes | None = None
    """Its probes, from the baseline on."""
    address_from: str = ""
    """Who told its address."""

    @property
    def info(self) -> GuestInfo:
        """The guest as libvirt told of it."""
        return self.login.info

    @property
    def name(self) -> str:
        """The guest's libvirt name."""
        return self.info.name

    @classmethod
    def open(cls, login: Login, settings: ClockSection, deadline: Deadline) -> GuestSession:
        """Log in, look around, start the clock sampler. Its clock is the deadline's.

        Raises ShellUnreachable, HostKeyRejected, WrongGuest, ProbeError or DeadlineExpired.
        """
        return login.enter(
            deadline, lambda found, shell: cls._in(login, found, shell, settings, deadline)
        )

    @classmethod
    def _in(
        cls,
        login: Login,
        entered: GuestAddress,
        shell: GuestShell,
        settings: ClockSection,
        deadline: Deadline,
    ) -> GuestSession:
        facts = gather(shell, deadline)
        sudo = login.sudo and facts.uid != 0
        sampler = Sampler.open(
            shell,
            facts,
            deadline,
            interpreters=settings.interpreters,
            sudo=sudo,
        )
        try:
            told = facts.machine.uuid or (sampler.machine_uuid(deadline) if sudo else None)
            found = Found(login.info, shell.way, facts, told)
            identity = identify(found, login.hypervisor, deadline)
        except BaseException:
            sampler.close()
            raise
        asked_s = login.section.tolerance_s or settings.tolerance_s
        agent = GuestAgentClock(login.hypervisor, login.info.uuid, deadline.clock)
        reach = Reach(sampler, shell, agent, facts.time_daemon, sudo)
        tolerance_s = asked_s or default_tolerance(sampler)
        return cls(
            login,
            entered.address,
            shell,
            facts,
            sampler,
            tolerance_s,
            reach,
            settings,
            identity,
            address_from=entered.origin,
        )

    @property
    def found(self) -> Found:
        """What the login found, to be compared with what others did."""
        return Found(self.info, self.shell.way, self.facts, self.identity.machine_uuid)

    def expect_right(self, deadline: Deadline) -> None:
        """Raise PlanError, with a hint, if no configured method may set the guest's clock.

        Changes nothing: the kernel, and the guest agent where it may be used, are asked.
        """
        try:
            self.sampler.expect_right(deadline)
        except ProbeError as error:
            if "guest-agent" in self.settings.methods and self._agent_sets_time(deadline):
                return
            hint = f"{error.hint}; or leave clocks alone: --no-correct" if error.hint else None
            raise PlanError(error.message, guest=self.name, hint=hint) from error

    def _agent_sets_time(self, deadline: Deadline) -> bool:
        try:
            return self.login.hypervisor.agent_facts(self.info.uuid, deadline).sets_time
        except HarnessError:
            return False

    def policy(self, before: ClockReading | None = None) -> CorrectionPolicy:
        """What may be done about this guest's clock, which was at ``before`` before the pause."""
        back = before if self.settings.restore_offset else None
        return CorrectionPolicy(
            slew_below_s=self.settings.slew_below_s,
            methods=self.settings.methods,
            target_s=back.offset_s if back else 0.0,
            target_uncertainty_s=back.uncertainty_s if back else 0.0,
            tolerance_s=self.tolerance_s,
            allow_backward=self.settings.allow_backward,
            ceiling_s=self.settings.ceiling_s,
            samples=self.settings.samples,
        )

    def watch_with(self, probes: GuestProbes) -> None:
        """Watch the guest with ``probes`` from now on; earlier ones are let go."""
        if self.probes is not None:
            self.probes.close()
        self.probes = probes

    def observe(
        self, boot_id: str | None, deadline: Deadline, before: ProcessIdentity | None = None
    ) -> Observed:
        """What identifies this life of the guest, seen from inside and from outside.

        ``before`` is its QEMU as it was seen earlier.
        """
        hypervisor = self.login.hypervisor
        process = hypervisor.process(self.info.uuid, deadline)
        ended = process is None and before is not None and hypervisor.has_ended(before)
        return Observed(boot_id, process, ended)

    def boot_id_anew(self, deadline: Deadline) -> str | None:
        """Return the boot id over a new connection, where the old one is dead.

        The guest may have been reset. None if it does not answer; never raises a HarnessError.
        """
        try:
            return wait_for(
                lambda: self.login.enter(deadline, lambda _, shell: self._boot_id(shell, deadline)),
                what="logging in again",
                deadline=deadline,
                retry_on=(ShellUnreachable,),
            )
        except HarnessError:
            return None

    def _boot_id(self, shell: GuestShell, deadline: Deadline) -> str:
        """Raises WrongGuest if another machine has the address by now."""
        facts = gather(shell, deadline)
        found = Found(self.info, shell.way, facts, facts.machine.uuid)
        identify(found, self.login.hypervisor, deadline)
        shell.close()
        return facts.boot_id

    def close(self) -> None:
        """End the probes, the sampler and the connection; never raises."""
        if self.probes is not None:
            self.probes.close()
        self.sampler.close()
        self.shell.close()


def default_tolerance(sampler: Sampler) -> float:
    """The tolerance where nobody asked for one: what this guest's interpreter can keep."""
    return DEFAULT_TOLERANCE_S[sampler.interpreter] if sampler.precise else COARSE_TOLERANCE_S
