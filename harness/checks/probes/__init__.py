"""Who watches through the pause: started before it, stopped after it, telling what they saw.

A witness is a small class (:class:`~harness.checks.probes.protocol.Witness`); what it tells is
judged by a check (:mod:`harness.checks`). To add one, write its module and add it to ``WITNESSES``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from harness.checks import CHECKS
from harness.checks.probes.canary import CanaryWitness
from harness.checks.probes.custom import OwnWitness
from harness.checks.probes.disk import DiskWitness
from harness.checks.probes.downtime import ProberWitness
from harness.checks.probes.life import LifeWitness
from harness.checks.probes.protocol import Witness
from harness.checks.probes.ram import ResidencyWitness
from harness.checks.probes.tcp_session import TcpWitness
from harness.checks.probes.timers import TimersWitness
from harness.checks.probes.vcpus import VcpuWitness

#: In the order in which they are started; they are stopped in the reverse order. The canary is
#: started late and stopped early: nothing of ours shall touch its memory for it. Timers are asked
#: before others make the guest busy. The memory of QEMU is looked at last.
WITNESSES: Sequence[type[Witness]] = (
    ResidencyWitness,
    VcpuWitness,
    ProberWitness,
    TcpWitness,
    DiskWitness,
    CanaryWitness,
    LifeWitness,
    TimersWitness,
    OwnWitness,
)


def witnesses_for(names: Iterable[str]) -> list[Witness]:
    """Those that the checks of these names need; the user's own checks are always asked."""
    needed = {CHECKS[name].needs for name in names} | {OwnWitness.tells}
    return [witness() for witness in WITNESSES if witness.tells in needed]
