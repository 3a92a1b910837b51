"""One life of a guest: its QEMU, and how long its vCPUs have run in it; seen, and written down."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol, TypedDict

from harness.core.fanout import fan_out
from harness.core.timebase import Deadline
from harness.host.protocol import Hypervisor, ProcessIdentity
from harness.results.journal import GuestCustody


class LifeFields(TypedDict):
    """How an entry of the journal has it."""

    qemu_pid: int | None
    qemu_start_ticks: int | None
    vcpu_ns: int | None


class NamesProcess(Protocol):
    """An entry of the journal that names a QEMU process."""

    @property
    def qemu_pid(self) -> int | None:
        """Its pid; None where it could not be seen."""

    @property
    def qemu_start_ticks(self) -> int | None:
        """When it was started."""


@dataclass(frozen=True)
class LifeSeen:
    """What is seen of a guest's QEMU at one moment."""

    process: ProcessIdentity | None = None
    vcpu_ns: int | None = None
    """CPU time of all its vCPU threads: it grows only while the guest runs."""

    @property
    def fields(self) -> LifeFields:
        """What an entry of the journal says of it."""
        if self.process is None:
            return LifeFields(qemu_pid=None, qemu_start_ticks=None, vcpu_ns=None)
        return LifeFields(
            qemu_pid=self.process.pid,
            qemu_start_ticks=self.process.start_ticks,
            vcpu_ns=self.vcpu_ns,
        )


def see_life(uuid: str, hypervisor: Hypervisor, deadline: Deadline) -> LifeSeen:
    """Return what is seen of a guest's QEMU now. Raises HypervisorError or DeadlineExpired."""
    process = hypervisor.process(uuid, deadline)
    return LifeSeen(process, vcpu_time_of(process, hypervisor))


def life_if_seen(uuid: str, hypervisor: Hypervisor, deadline: Deadline) -> LifeSeen:
    """Return what is seen of a guest's QEMU now, if it can be seen. Never raises."""
    with suppress(Exception):
        return see_life(uuid, hypervisor, deadline)
    return LifeSeen()


def lives_if_seen(
    uuids: Sequence[str], hypervisor: Hypervisor, deadline: Deadline
) -> dict[str, LifeSeen]:
    """Return what is seen of each guest's QEMU now, by UUID; guests not seen in time are left out.

    One after the other, in one thread: the kernel answers in microseconds. Never raises.
    """
    found: dict[str, LifeSeen] = {}

    def look() -> None:
        for uuid in uuids:
            found[uuid] = life_if_seen(uuid, hypervisor, deadline)

    fan_out({"": look}, deadline, what="looking at guests")
    return dict(found)


def vcpu_time_of(process: ProcessIdentity | None, hypervisor: Hypervisor) -> int | None:
    """Return how long the vCPUs of a process have run; None where it cannot be seen.

    Never raises: a guest is never left for want of a number.
    """
    with suppress(Exception):
        return hypervisor.vcpu_time_ns(process) if process is not None else None
    return None


def process_in(entry: NamesProcess) -> ProcessIdentity | None:
    """Return the process that an entry of the journal names."""
    if entry.qemu_pid is None or entry.qemu_start_ticks is None:
        return None
    return ProcessIdentity(entry.qemu_pid, entry.qemu_start_ticks)


def process_of(custody: GuestCustody | None) -> ProcessIdentity | None:
    """Return the QEMU process that was paused, as the journal has it; None if it does not say."""
    life = custody.life if custody is not None else None
    return process_in(life) if life is not None else None
