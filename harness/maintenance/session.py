"""One guest of a run, with everything that must be open before the pause and stay open after it.

That is its shell, what is known about it, and the sampler of its clock.
"""

from __future__ import annotations

from dataclasses import dataclass

from harness.checks.evidence import Observed
from harness.checks.probes.group import GuestProbes
from harness.clock.policy import CorrectionPolicy
from harness.clock.sampling import Sampler
from harness.clock.target import Reach
from harness.clock.told import GUEST_AGENT
from harness.clock.tolerance import default_tolerance
from harness.core.errors import HarnessError, PlanError, ProbeError, ShellUnreachable
from harness.core.records import ClockReading, IdentityRecord
from harness.core.settings import ClockSection
from harness.core.timebase import Deadline, wait_for
from harness.guest.agent_shell import AgentShell
from harness.guest.facts import GuestFacts, gather
from harness.guest.protocol import GuestShell, Looks, Python
from harness.host.protocol import GuestAddress, GuestInfo, ProcessIdentity
from harness.maintenance.guest_access import Login
from harness.maintenance.identity import Found, identify
from harness.maintenance.inside import look_by_agent, look_by_ssh, with_owed_ticks


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
    """Who told its address; why it is reached at none."""
    limits: str | None = None
    """What this way into the guest cannot tell, and why; None: nothing is beyond it."""
    python: Python | None = None
    """What runs programs in the guest; None: the shell does."""
    looks: Looks | None = None
    """What looks around in the guest; None: the shell does."""

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
        if isinstance(shell, AgentShell):
            inside = look_by_agent(shell, login.info, settings, deadline)
        else:
            inside = look_by_ssh(
                shell, login.info, login.hypervisor, settings, deadline, sudo=login.sudo
            )
        asked_s = login.section.tolerance_s or settings.tolerance_s
        return cls(
            login,
            entered.address,
            shell,
            inside.facts,
            inside.sampler,
            asked_s or default_tolerance(inside.sampler, inside.facts.os),
            with_owed_ticks(inside, login.info, login.hypervisor, deadline.clock),
            settings,
            inside.identity,
            address_from=entered.origin,
            limits=inside.limits,
            python=inside.python,
            looks=inside.looks,
        )

    @property
    def found(self) -> Found:
        """What the login found, to be compared with what others did."""
        return Found(self.info, self.shell.way, self.facts, self.identity.machine_uuid)

    def expect_right(self, deadline: Deadline) -> None:
        """Raise PlanError, with a hint, if no configured method may set the guest's clock.

        Changes nothing: the kernel, and the guest agent where it may be used, are asked.
        """
        if self.sampler.interpreter == GUEST_AGENT and GUEST_AGENT not in self.settings.methods:
            raise PlanError(
                "its clock can be set by the guest agent only, which clock.methods leaves out",
                guest=self.name,
                hint="add guest-agent to them; or leave clocks alone: --no-correct",
            )
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
        if not isinstance(shell, AgentShell):  # which is in no other machine
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
