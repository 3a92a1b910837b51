"""Which updates of one configuration share a pause window, and which cannot be in one plan. Pure.

One window takes what follows one another with the same scope: the same guests are paused for it.
Nothing follows kind ``qemu`` or ``adopt`` in its window, because guests that go on in another
process are not taken back into the one before when something after that fails.
"""

from __future__ import annotations

from collections.abc import Sequence

from harness.core.errors import PlanError
from harness.updates.protocol import GuestUpdate, HostUpdate

#: Kinds that are in a plan by themselves, and why.
_ALONE = {
    "hold": (
        "lasts until its window's time is over",
        "harness hold GUEST... is a command of its own",
    ),
    "kernel": (
        "ends this host's kernel, and the run with it",
        "install the kernel's package in a run before, by kind packages",
    ),
}
#: Kinds of which a plan has one at most, with what to do instead.
_ONCE = {
    "packages": "list all of them in one update: they are one transaction",
    "libvirt": "list all of its packages in one update: the daemon is restarted once",
    "stand-in": "one stands in for all of them: duration_s says how long",
    "qemu": "one replacement takes each guest to the QEMU it is to run in",
    "adopt": "guests are adopted once",
}


def shared_windows(updates: Sequence[HostUpdate]) -> list[list[int]]:
    """Return the numbers of ``updates`` (from 0) that each window takes, in order.

    Raises PlanError for updates that cannot be in one plan.
    """
    _refuse(updates)
    windows: list[list[int]] = []
    for number, update in enumerate(updates):
        before = updates[number - 1] if number else None
        if before is None or isinstance(before, GuestUpdate) or before.scope is not update.scope:
            windows.append([])
        windows[-1].append(number)
    return windows


def _refuse(updates: Sequence[HostUpdate]) -> None:
    kinds = [one.kind for one in updates]
    for kind, (why, instead) in _ALONE.items():
        if len(kinds) > 1 and kind in kinds:
            raise PlanError(f"kind {kind} {why}, so no other update goes with it", hint=instead)
    for kind, instead in _ONCE.items():
        if kinds.count(kind) > 1:
            raise PlanError(f"{kinds.count(kind)} updates of kind {kind} in one plan", hint=instead)
    if "adopt" in kinds and "qemu" in kinds:
        raise PlanError(
            "kinds adopt and qemu are in one plan, but whether a guest's QEMU can be replaced is "
            "known only when it has been adopted",
            hint="harness adopt GUEST... first, then kind qemu by itself",
        )
