"""What is done beside, where there is a second CPU, so that guests wait for less. None is needed.

With one CPU it would only be done sooner than what guests wait for.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from harness.host import ram_links
from harness.host.kernel.warm_qemu import WarmQemu
from harness.host.parking import Parking
from harness.updates.kernel.plan import ThawPlan


def has_cpus() -> bool:
    """Return True if there is a second CPU."""
    return (os.cpu_count() or 1) > 1


def import_binding() -> threading.Thread | None:
    """Import what talks to libvirt, while other programs are waited for."""
    if not has_cpus():
        return None
    thread = threading.Thread(target=_import_binding, daemon=True)
    thread.start()
    return thread


def _import_binding() -> None:
    with suppress(Exception):  # who needs it imports it again, and says so
        import harness.host.driver
        import harness.host.kernel.networks  # noqa: F401


@contextmanager
def warm_qemu(plan: ThawPlan, parkings: Sequence[Parking]) -> Iterator[WarmQemu]:
    """Have a QEMU started for the time of a ``with``, as the user of the guests'."""
    files = (Path(one.keep, ram_links.RAM, name) for one in parkings for name in one.ram)
    warm = WarmQemu(plan.emulators if has_cpus() else {}, next(files, None))
    try:
        yield warm
    finally:
        warm.end()
