"""Probes watch through the pause: started before it, stopped after it, they tell what they saw.

A probe is a small class (:class:`~harness.checks.probes.protocol.Probe`); a check
(:mod:`harness.checks`) judges what it tells. To add one, write its module and add it to ``PROBES``;
what runs in the guest is a file in ``programs/``, named in ``programs.PARTS``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from harness.checks import CHECKS
from harness.checks.probes.canary import CanaryProbe
from harness.checks.probes.custom import OwnProbe
from harness.checks.probes.disk import DiskProbe
from harness.checks.probes.downtime import DowntimeProbe
from harness.checks.probes.life import LifeProbe
from harness.checks.probes.protocol import Probe
from harness.checks.probes.ram import ResidencyProbe
from harness.checks.probes.tcp_session import TcpProbe
from harness.checks.probes.timers import TimersProbe
from harness.checks.probes.vcpus import VcpuProbe

#: In the order in which they are started; they are stopped in the reverse order. The canary is
#: started late and stopped early: no probe may touch its memory for it. Timers are asked
#: before others make the guest busy. The memory of QEMU is looked at last.
PROBES: Sequence[type[Probe]] = (
    ResidencyProbe,
    VcpuProbe,
    DowntimeProbe,
    TcpProbe,
    DiskProbe,
    CanaryProbe,
    LifeProbe,
    TimersProbe,
    OwnProbe,
)


def probes_for(names: Iterable[str]) -> list[Probe]:
    """Those that the checks of these names need; the user's own checks are always asked."""
    needed = {CHECKS[name].needs for name in names} | {OwnProbe.tells}
    return [probe() for probe in PROBES if probe.tells in needed]
