"""Disks that nothing is written to any more, as this kernel is left; and again, if it goes on.

By the kernel's own emergency remount, which no open file keeps from it.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from harness.core.errors import DeadlineExpired, InfrastructureError
from harness.core.timebase import Deadline, NotYet, wait_for
from harness.host.kernel import early
from harness.host.mounts import Mount, still_written

_SYSRQ = Path("/proc/sysrq-trigger")
#: So long file systems are waited for: guests are paused, and all is on the disks already.
_READ_ONLY_WITHIN_S = 2.0
#: The kernel's own thread may be at it still.
_WRITABLE_WITHIN_S = 5.0


def make_read_only() -> None:
    """Have every file system be read-only, as far as two seconds are enough. Raises OSError.

    What was written to before, and is to be for :func:`make_writable`, is ``still_written``.
    """
    _SYSRQ.write_text("u")  # the kernel does it in a thread of its own
    await_read_only()


def await_read_only() -> None:
    """Wait until every file system is read-only, for two seconds at most."""
    with suppress(DeadlineExpired):
        wait_for(
            _all_read_only,
            what="file systems to be read-only",
            deadline=Deadline.after(_READ_ONLY_WITHIN_S),
            interval_s=0.01,
        )


def make_writable(before: Sequence[Mount]) -> None:
    """Have file systems be written to again that were before. Raises InfrastructureError.

    One that was read-only stays so, and so does a mount that was.
    """
    first: dict[str, Mount] = {}
    for one in before:
        if "ro" not in one.options:
            first.setdefault(one.device, one)

    def look() -> None:
        now = {one.device for one in still_written()}
        left = [one for device, one in first.items() if device not in now]
        for one in left:
            _remount(one)
        if left:
            raise NotYet("not looked at since")

    wait_for(
        look,
        what="file systems to be writable again",
        deadline=Deadline.after(_WRITABLE_WITHIN_S),
        interval_s=0.05,
    )


def _remount(one: Mount) -> None:
    said = ",".join(["remount", *one.options, *one.of_all])
    try:
        early.change(Path(one.where), said)
    except InfrastructureError as error:
        raise NotYet(error.message) from error


def _all_read_only() -> None:
    if left := still_written():
        raise NotYet(f"still written to: {', '.join(one.where for one in left)}")
