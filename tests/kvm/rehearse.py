"""Runs in the lab box: one update without any guest, to its end: verified, or rolled back.

``python -m tests.kvm.rehearse CONFIG``. Prints ``applied`` or ``rolled back: why``.
"""

from __future__ import annotations

import sys
from pathlib import Path
from tempfile import mkdtemp

from harness.commands.maintenance_options import make_update
from harness.config import load
from harness.errors import UpdateFailed
from harness.paths import state_dir
from harness.timebase import Deadline
from harness.updates.protocol import UpdateContext


def main() -> None:
    """Check, prepare, apply, then verify or roll back."""
    update = make_update(load(Path(sys.argv[1]), environment={}, flags={}).config)
    context = UpdateContext("rehearsal", Path(mkdtemp()), "0", (), state_dir(), 30.0)
    update.check()
    update.prepare(context, Deadline.after(60))
    try:
        update.apply(context, Deadline.after(28))
    except UpdateFailed as error:
        update.rollback(context, Deadline.after(60))
        sys.stdout.write(f"rolled back: {error}\n")
        return
    update.verify(context, Deadline.after(60))
    sys.stdout.write("applied\n")


if __name__ == "__main__":
    main()
