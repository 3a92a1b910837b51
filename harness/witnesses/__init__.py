"""Who watches through the pause: started before it, stopped after it, telling what they saw.

A witness is a small class (:class:`harness.witnesses.protocol.Witness`); what it tells is judged
by a check (:mod:`harness.checks`). To add one, write its module and add it to ``WITNESSES``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from harness.checks import CHECKS
from harness.witnesses.canary import CanaryWitness
from harness.witnesses.disk import DiskWitness
from harness.witnesses.life import LifeWitness
from harness.witnesses.own import OwnWitness
from harness.witnesses.prober import ProberWitness
from harness.witnesses.protocol import Witness
from harness.witnesses.residency import ResidencyWitness
from harness.witnesses.tcp_session import TcpWitness
from harness.witnesses.timers import TimersWitness
from harness.witnesses.vcpus import VcpuWitness

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
