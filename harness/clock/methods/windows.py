"""In Windows: step, have QEMU forget the ticks that were missed, then tell W32Time."""

from __future__ import annotations

from dataclasses import replace

from harness.clock.agents import POWERSHELL
from harness.clock.methods.absolute import GuestAgent
from harness.clock.methods.protocol import Change, Method
from harness.clock.methods.relative import RelativeStep
from harness.clock.target import OwedTicks, Reach
from harness.clock.told import GUEST_AGENT
from harness.core.errors import CommandFailed, HarnessError, ProbeError
from harness.core.last_line import last_line
from harness.core.timebase import NS_PER_S, Deadline
from harness.guest import windows
from harness.guest.protocol import GuestShell, Language

#: Starting PowerShell and w32tm in it.
_TELL_S = 20.0
#: An agent that hangs must not keep a clock wrong.
_AGENT_S = 5.0
#: Two at least: a clock that jumps shows only against another sample.
_READINGS = 2
_STEP, _AGENT = RelativeStep(), GuestAgent()
_HINT_TICKS = (
    "have the guest run qemu-guest-agent, or take tickpolicy='catchup' from its RTC's <timer>, or "
    "give it Hyper-V's <stimer state='on'/>; --watch shows whether the clock stays right"
)


class WindowsStep(Method):
    """Steps the clock, and sees to it that neither QEMU nor W32Time undoes the step.

    QEMU may owe the guest ticks for the time of the pause. libvirt has QEMU forget them (QMP's
    ``rtc-reset-reinjection``) whenever it sets a guest's time through the guest agent; see
    docs/adr/0030-rtc-reinjection.md.
    """

    name = "windows"

    def obstacle(self, reach: Reach) -> str | None:
        """See :class:`Method`."""
        if reach.sampler.interpreter == POWERSHELL:
            return _STEP.obstacle(reach)
        if reach.sampler.interpreter == GUEST_AGENT and _in_windows(reach.shell):
            return _AGENT.obstacle(reach)
        return "it is no Windows"

    def apply(self, reach: Reach, change: Change, deadline: Deadline) -> None:
        """See :class:`Method`."""
        if reach.owed is not None and _forget_ticks(reach, reach.owed, change, deadline):
            # The agent's set is as exact as its way; the step is of what is left.
            if reach.sampler.interpreter == GUEST_AGENT:
                return
            change = replace(change, reading=reach.sampler.read(_READINGS, deadline))
        _change(reach).apply(reach, change, deadline)

    def settle(self, reach: Reach, deadline: Deadline) -> bool:
        """See :class:`Method`."""
        if reach.owed is not None and reach.owed.why_not_forgotten is not None:
            why = "QEMU may deliver the ticks that the guest missed, and move its clock forwards"
            said = f"{why}: {reach.owed.why_not_forgotten}"
            raise ProbeError(said, guest=reach.sampler.guest, hint=_HINT_TICKS)
        if reach.time_daemon != "w32time" or reach.shell is None:
            return False
        _resync(reach, deadline)
        return True


def _in_windows(shell: GuestShell | None) -> bool:
    return shell is not None and shell.speaks is Language.POWERSHELL


def _change(reach: Reach) -> Method:
    """By the clock agent where one runs; else by QEMU's guest agent, which is all that there is."""
    return _AGENT if reach.sampler.interpreter == GUEST_AGENT else _STEP


def _forget_ticks(reach: Reach, owed: OwedTicks, change: Change, deadline: Deadline) -> bool:
    """Set the time in the way that makes QEMU forget; whether that was done."""
    if owed.forget is None:
        owed.why_not_forgotten = "it has no guest agent"
        return False
    try:
        target_ns = round(change.target_s * NS_PER_S)
        owed.forget.set(reach.clock.realtime_ns() + target_ns, deadline.sooner(_AGENT_S))
    except HarnessError as error:
        owed.why_not_forgotten = error.message
        return False
    owed.why_not_forgotten = None
    return True


def _resync(reach: Reach, deadline: Deadline) -> None:
    assert reach.shell is not None
    try:
        reach.shell.run(windows.RESYNC, deadline.sooner(_TELL_S))
    except CommandFailed as error:
        said = last_line(error.stderr, f"status {error.returncode}")
        raise ProbeError(
            f"W32Time could not be told of the step, and may undo it: {said[:80]}",
            guest=reach.sampler.guest,
            hint="does `w32tm /resync` work in the guest? --watch shows if the clock stays right",
        ) from error
