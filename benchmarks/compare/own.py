"""What harness's own code costs in a pause window: on guests whose calls take no time.

libvirt's test driver lives in the process and pauses by setting a variable; the guardian has no
part in a window that goes well.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from harness.core.signals import Interruption
from harness.core.timebase import Deadline
from harness.host.driver import LibvirtHypervisor
from harness.maintenance.pause.terms import Limits, UpdateCalls
from harness.maintenance.pause.window import hold_window
from harness.results.journal import Journal, Member
from harness.testing.guard import FakeGuard
from harness.updates.protocol import Applied

_GUEST = """<domain type='test'><name>g{number}</name><memory>1024</memory>
<os><type>hvm</type></os></domain>"""


def window_ms(guests: int) -> float:
    """Overhead of one pause window of so many guests."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        described = "".join(_GUEST.format(number=number) for number in range(guests))
        (folder / "node.xml").write_text(f"<node>{described}</node>")
        hypervisor = LibvirtHypervisor.open(f"test://{folder / 'node.xml'}", Deadline.after(10))
        known = hypervisor.guests(Deadline.after(10))
        with Interruption() as interruption, Journal(folder, "bench") as journal:
            window = hold_window(
                [Member(guest.name, guest.uuid) for guest in known],
                UpdateCalls(lambda deadline: Applied(0), lambda: None),
                hypervisor=hypervisor,
                journal=journal,
                interruption=interruption,
                guard=FakeGuard(),
                limits=Limits(budget_s=30.0, resume_reserve_s=2.0, resume_patience_s=30.0),
            )
        hypervisor.close()
    assert window.update_s is not None
    return 1000 * (window.duration_s - window.update_s)
