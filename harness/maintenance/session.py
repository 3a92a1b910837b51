"""One guest of a run, with everything that must be open before the pause and stay open after it.

That is its shell, what is known about it, and the sampler of its clock.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from harness.checks.evidence import Observed
from harness.checks.probes.group import GuestProbes
from harness.clock.policy import CorrectionPolicy
from harness.clock.sampling import Sampler
from harness.clock.target import AgentTime, Reach
from harness.core.errors import DeadlineExpired, HarnessError, HostKeyRejected, ShellUnreachable
from harness.core.records import ClockReading
from harness.core.settings import Config, GuestSection
from harness.core.timebase import SYSTEM_CLOCK, Clock, Deadline, wait_for
from harness.guest.facts import GuestFacts, gather
from harness.guest.protocol import Connector, GuestShell
from harness.host.protocol import GuestInfo, Hypervisor

#: Allowed |offset| where the configuration names none; see docs/clocks.md.
DEFAULT_TOLERANCE_S = {"python3": 0.010, "perl": 0.010, "sh": 0.020}
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


@dataclass
class GuestSession:
    """An open connection to one guest; close it when the run is over."""

    info: GuestInfo
    section: GuestSection
    address: str
    shell: GuestShell
    facts: GuestFacts
    sampler: Sampler
    tolerance_s: float
    reach: Reach
    probes: GuestProbes | None = None
    """Its probes, from the baseline on."""

    @property
    def name(self) -> str:
        """The guest's libvirt name."""
        return self.info.name

    @classmethod
    def open(
        cls,
        info: GuestInfo,
        config: Config,
        hypervisor: Hypervisor,
        connector: Connector,
        deadline: Deadline,
        clock: Clock = SYSTEM_CLOCK,
    ) -> GuestSession:
        """Find the guest's address, log in, look around, start the clock sampler.

        Raises ShellUnreachable, HostKeyRejected, ProbeError or DeadlineExpired.
        """
        section = config.for_guest(info.name, info.uuid)
        address, shell = _log_in(info, section, config, hypervisor, connector, deadline)
        try:
            facts = gather(shell, deadline)
            own = section.ssh
            sudo = own.sudo if "sudo" in own.model_fields_set else config.ssh.sudo
            sudo = sudo and facts.uid != 0
            interpreters = config.clock.interpreters
            sampler = Sampler.open(
                shell, facts, deadline, clock, interpreters=interpreters, sudo=sudo
            )
        except HarnessError:
            shell.close()
            raise
        tolerance_s = section.tolerance_s or config.clock.tolerance_s or default_tolerance(sampler)
        agent = GuestAgentClock(hypervisor, info.uuid, clock)
        reach = Reach(sampler, shell, agent, facts.time_daemon, sudo)
        return cls(info, section, address, shell, facts, sampler, tolerance_s, reach)

    def policy(self, config: Config, before: ClockReading | None = None) -> CorrectionPolicy:
        """What may be done about this guest's clock, which was at ``before`` before the pause."""
        back = before if config.clock.restore_offset else None
        return CorrectionPolicy(
            slew_below_s=config.clock.slew_below_s,
            methods=config.clock.methods,
            target_s=back.offset_s if back else 0.0,
            target_uncertainty_s=back.uncertainty_s if back else 0.0,
            tolerance_s=self.tolerance_s,
            allow_backward=config.clock.allow_backward,
            ceiling_s=config.clock.ceiling_s,
            samples=config.clock.samples,
        )

    def observe(self, boot_id: str | None, hypervisor: Hypervisor, deadline: Deadline) -> Observed:
        """What identifies this life of the guest, seen from inside and from outside."""
        return Observed(boot_id, hypervisor.process(self.info.uuid, deadline))

    def boot_id_anew(
        self, config: Config, hypervisor: Hypervisor, connector: Connector, deadline: Deadline
    ) -> str | None:
        """Return the boot id over a new connection, where the old one is dead.

        The guest may have been reset. None if it does not answer; never raises a HarnessError.
        """
        logged_in = partial(_log_in, self.info, self.section, config, hypervisor, connector)
        try:
            shell = wait_for(
                lambda: logged_in(deadline)[1],
                what="logging in again",
                deadline=deadline,
                retry_on=(ShellUnreachable,),
            )
        except HarnessError:
            return None
        try:
            return gather(shell, deadline).boot_id
        except HarnessError:
            return None
        finally:
            shell.close()

    def close(self) -> None:
        """End the probes, the sampler and the connection; never raises."""
        if self.probes is not None:
            self.probes.close()
        self.sampler.close()
        self.shell.close()


def default_tolerance(sampler: Sampler) -> float:
    """The tolerance where nobody asked for one: what this guest's interpreter can keep."""
    return DEFAULT_TOLERANCE_S[sampler.interpreter] if sampler.precise else COARSE_TOLERANCE_S


def _log_in(
    info: GuestInfo,
    section: GuestSection,
    config: Config,
    hypervisor: Hypervisor,
    connector: Connector,
    deadline: Deadline,
) -> tuple[str, GuestShell]:
    """Try the guest's addresses in order: configuration, guest agent, DHCP lease, ARP."""
    refusals: list[HarnessError] = []
    for address in _addresses(info, section, hypervisor, connector, deadline):
        try:
            opened = connector.open(info.name, address, config.ssh, section.ssh, deadline)
            return address, opened
        except (ShellUnreachable, HostKeyRejected) as error:
            refusals.append(error)
        except DeadlineExpired as error:
            # Nobody answers there; the next address may have time left, unless all of it is over.
            refusals.append(error)
            if deadline.expired:
                break
    # A refused host key says more than an address that leads nowhere.
    raise next((e for e in refusals if isinstance(e, HostKeyRejected)), refusals[0])


def _addresses(
    info: GuestInfo,
    section: GuestSection,
    hypervisor: Hypervisor,
    connector: Connector,
    deadline: Deadline,
) -> Sequence[str]:
    configured = section.address or connector.configured_address(info.name)
    if configured:
        return [configured]
    found = hypervisor.addresses(info.uuid, deadline)
    if not found:
        raise ShellUnreachable(
            "has no known address: none configured, and none from guest agent, DHCP or ARP",
            guest=info.name,
            hint='give it one: [[guest]] name = "…" address = "…" in harness.toml',
        )
    return found
