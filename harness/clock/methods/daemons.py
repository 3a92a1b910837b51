"""With a time daemon in the guest: step, then tell it, so that it does not undo the step."""

from __future__ import annotations

from typing import ClassVar

from harness.clock.methods.absolute import DateAtSecond
from harness.clock.methods.protocol import Change, Method
from harness.clock.methods.relative import RelativeStep
from harness.clock.target import Reach
from harness.core.errors import CommandFailed, ProbeError
from harness.core.timebase import Deadline

#: A process start or two under emulation.
_TELL_S = 10.0
_STEPS: tuple[Method, ...] = (RelativeStep(), DateAtSecond())


class _StepAndTell(Method):
    """The step itself is the best that the guest can do."""

    daemons: ClassVar[tuple[str, ...]]

    def obstacle(self, reach: Reach) -> str | None:
        """See :class:`Method`."""
        if reach.time_daemon not in self.daemons:
            return f"{self.daemons[0]} does not run"
        obstacles = [step.obstacle(reach) for step in _STEPS]
        return None if None in obstacles else obstacles[0]

    def is_step(self, reach: Reach) -> bool:
        """See :class:`Method`."""
        return reach.sampler.can_step

    def apply(self, reach: Reach, change: Change, deadline: Deadline) -> None:
        """See :class:`Method`."""
        step = next(step for step in _STEPS if step.obstacle(reach) is None)
        step.apply(reach, change, deadline)


class Chronyd(_StepAndTell):
    """Steps the clock together with chronyd.

    ``makestep`` ends a slew that chronyd is at; ``reset sources`` makes it forget what it had
    measured against the clock as it was.
    """

    name = "chronyd"
    daemons = ("chronyd",)

    def settle(self, reach: Reach, deadline: Deadline) -> bool:
        """See :class:`Method`."""
        words = ("chronyc", "-n", "-m", "makestep", "reset sources")
        try:
            reach.run(words, deadline.sooner(_TELL_S))
        except CommandFailed as error:
            said = error.stdout.strip().splitlines()[-1:] or [f"status {error.returncode}"]
            raise ProbeError(
                f"chronyd could not be told of the step, and may undo it: chronyc: {said[0][:80]}",
                guest=reach.sampler.guest,
                hint="chronyc needs root (or its group) in the guest; --watch shows if it does",
            ) from error
        return True


class Timesyncd(_StepAndTell):
    """Steps the clock under systemd-timesyncd.

    The kernel tells the daemon of a step (TFD_TIMER_CANCEL_ON_SET), and drops a slew that it had
    asked for (ADJ_OFFSET); the daemon then asks its server again.
    """

    name = "timesyncd"
    daemons = ("systemd-timesyncd",)


class Ntpd(_StepAndTell):
    """Steps the clock under ntpd.

    ntpd takes no word of a step, but its next measurements are of the clock as it is; the kernel
    drops the slew that it had asked for.
    """

    name = "ntpd"
    daemons = ("ntpd", "openntpd")
