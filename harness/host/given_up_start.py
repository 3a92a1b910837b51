"""A start of a QEMU that no process carries on: libvirt was killed before it knew that QEMU's pid.

libvirt has written down by then that the guest is being started, without a pid. The libvirt that
comes next reads that, does not look for a QEMU (libvirt's qemuProcessReconnectHelper), and holds
the start's job without end: the guest is "paused (starting up)", and whatever needs that job, a
destroy too, fails after libvirt's own 30 s. Seen in libvirt 9.0; a restart changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

import libvirt

from harness.core.errors import DeadlineExpired, GuestNotFound, HypervisorError
from harness.core.timebase import Deadline, NotYet, wait_for
from harness.host.translate import translated

#: From the beginning of a start to its QEMU: libvirt loads the guest's profile of AppArmor before.
_QEMU_S = 5.0
_STARTING = [libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_PAUSED_STARTING_UP]


def await_process(
    guest: str,
    domain: Callable[[], libvirt.virDomain | None],
    has_process: Callable[[], bool],
    deadline: Deadline,
) -> None:
    """Wait until libvirt knows the process of a guest that it starts, or has ended the start.

    Raises HypervisorError if it knows none for so long that it does not go on.
    """

    def look() -> None:
        there = None if has_process() else domain()
        # A transient guest goes with a start that fails.
        with suppress(GuestNotFound), translated("waiting for its QEMU", guest):
            if there is not None and there.state() == _STARTING:
                raise NotYet("no QEMU")

    # Before the caller's own deadline, so that this is the reported error.
    until = deadline.sooner(min(_QEMU_S, deadline.remaining_s() / 2))
    try:
        wait_for(look, what="its QEMU", deadline=until, interval_s=0.02)
    except DeadlineExpired as error:
        raise HypervisorError(
            "libvirt holds on to a start (paused, starting up) that has no QEMU",
            operation="ending a start",
            guest=guest,
        ) from error
