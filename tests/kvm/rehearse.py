"""Runs in the lab box: updates without any guest, each to its end: verified, rolled back, refused.

``python -m tests.kvm.rehearse CONFIG...``. Prints a JSON array of what became of them.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from harness.core.config import load
from harness.core.errors import UpdateFailed, UsageError
from harness.core.paths import state_dir
from harness.core.timebase import Deadline
from harness.updates.configured import make_update
from harness.updates.protocol import HostUpdate, UpdateContext
from harness.updates.registry import FULL_CONFIG


def rehearse(config: Path, run_dir: Path) -> str:
    """Check, prepare, apply, then verify or roll back; what became of it, in words."""
    context = UpdateContext("rehearsal", run_dir, config.stem, (), state_dir(), 30.0)
    try:
        loaded = load(config, environment={}, flags={}, model=FULL_CONFIG).config
        update: HostUpdate = make_update(loaded.updates, loaded.uri, state_dir())
        update.check()
    except UsageError as error:
        return f"refused: {error}"
    update.prepare(context, Deadline.after(60))
    try:
        applied = update.apply(context, Deadline.after(28))
    except UpdateFailed as error:
        update.rollback(context, Deadline.after(60))
        return f"rolled back: {error}"
    try:
        update.verify(context, Deadline.after(60))
    except UpdateFailed as error:
        return f"not in force: {error}"
    return f"applied: {applied.detail}"


if __name__ == "__main__":
    with TemporaryDirectory() as folder:
        said = [rehearse(Path(config), Path(folder)) for config in sys.argv[1:]]
    sys.stdout.write(json.dumps(said))
