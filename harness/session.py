"""One guest of a run, with everything that must be open before the pause and stay open after it:
its shell, what is known about it, and the sampler of its clock.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from harness.checks.evidence import Observed
from harness.clock.correction import CorrectionPolicy
from harness.clock.sampling import Sampler
from harness.config import Config, GuestSection
from harness.errors import HarnessError, HostKeyRejected, ShellUnreachable
from harness.guest.access import SshSettings
from harness.guest.facts import GuestFacts, gather
from harness.guest.protocol import GuestShell
from harness.guest.shell import SshShell
from harness.host.protocol import GuestInfo, Hypervisor
from harness.timebase import Deadline, wait_for
from harness.witnesses.watch import Watch

#: Allowed |offset| where the configuration names none; see docs/clocks.md.
DEFAULT_TOLERANCE_S = {"python3": 0.010, "sh": 0.050}


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
    watch: Watch | None = None
    """Its witnesses, from the baseline on."""

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
        deadline: Deadline,
    ) -> GuestSession:
        """Find the guest's address, log in, look around, start the clock sampler.

        Raises ShellUnreachable, HostKeyRejected, ProbeError or DeadlineExpired.
        """
        section = config.for_guest(info.name, info.uuid)
        address, shell = _log_in(info, section, config, hypervisor, deadline)
        try:
            facts = gather(shell, deadline)
            sampler = Sampler.open(shell, facts, deadline)
        except HarnessError:
            shell.close()
            raise
        tolerance_s = (
            section.tolerance_s
            or config.clock.tolerance_s
            or DEFAULT_TOLERANCE_S[sampler.interpreter]
        )
        return cls(info, section, address, shell, facts, sampler, tolerance_s)

    def policy(self, config: Config) -> CorrectionPolicy:
        """What may be done about this guest's clock."""
        return CorrectionPolicy(
            tolerance_s=self.tolerance_s,
            allow_backward=config.clock.allow_backward,
            ceiling_s=config.clock.ceiling_s,
            samples=config.clock.samples,
        )

    def observe(self, boot_id: str | None, hypervisor: Hypervisor, deadline: Deadline) -> Observed:
        """What identifies this life of the guest, seen from inside and from outside."""
        return Observed(boot_id, hypervisor.process(self.info.uuid, deadline))

    def boot_id_anew(
        self, config: Config, hypervisor: Hypervisor, deadline: Deadline
    ) -> str | None:
        """The boot id over a new connection, where the old one is dead: the guest may have been
        reset. None if it does not answer; never raises a HarnessError."""
        logged_in = partial(_log_in, self.info, self.section, config, hypervisor)
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
        """End the witnesses, the sampler and the connection; never raises."""
        if self.watch is not None:
            self.watch.close()
        self.sampler.close()
        self.shell.close()


def _log_in(
    info: GuestInfo,
    section: GuestSection,
    config: Config,
    hypervisor: Hypervisor,
    deadline: Deadline,
) -> tuple[str, GuestShell]:
    """Try the guest's addresses in order: configuration, guest agent, DHCP lease, ARP."""
    refusals: list[HarnessError] = []
    for address in _addresses(info, section, config, hypervisor, deadline):
        settings = SshSettings.resolve(info.name, address, config.ssh, section.ssh)
        try:
            return address, SshShell.open(info.name, address, settings, deadline)
        except (ShellUnreachable, HostKeyRejected) as error:
            refusals.append(error)
    # A refused host key says more than an address that leads nowhere.
    raise next((e for e in refusals if isinstance(e, HostKeyRejected)), refusals[0])


def _addresses(
    info: GuestInfo,
    section: GuestSection,
    config: Config,
    hypervisor: Hypervisor,
    deadline: Deadline,
) -> Sequence[str]:
    configured = section.address or SshSettings.configured_address(info.name)
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
