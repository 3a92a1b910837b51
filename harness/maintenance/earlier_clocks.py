"""What earlier runs say of how well a guest's clock can be told from here.

For a plan, which logs in nowhere; a run measures it itself before the pause.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from pathlib import Path

from harness.clock.policy import CorrectionPolicy
from harness.core.errors import UsageError
from harness.core.records import GuestRecord
from harness.maintenance.plan import PlannedGuest
from harness.results.folder import all_runs

#: So many of the newest runs are looked at.
_RUNS = 20


def foresee_clocks(
    guests: Sequence[PlannedGuest], state_dir: Path, tolerance_s: float | None
) -> tuple[str, ...]:
    """Return a line for each guest whose clock was too far away to be judged when it was read last.

    ``tolerance_s``: the one that is configured for all; None: that of the earlier run is taken.
    """
    left = {guest.info.uuid: guest for guest in guests}
    warnings = []
    for folder in islice(all_runs(state_dir), _RUNS):
        if not left:
            break
        try:
            record = folder.record()
        except UsageError:
            continue  # of another version of harness, or damaged
        for seen in record.guests:
            if seen.clock.before is None or seen.uuid not in left:
                continue
            planned = left.pop(seen.uuid)
            allowed_s = planned.section.tolerance_s or tolerance_s or _judged_by(seen)
            if allowed_s is None:
                continue
            why = CorrectionPolicy(tolerance_s=allowed_s).foresee(seen.clock.before)
            if why is not None:
                warnings.append(f"{planned.name}: as of its last run ({record.run_id}), {why}")
    return tuple(warnings)


def _judged_by(guest: GuestRecord) -> float | None:
    allowed = [check.allowed for check in guest.checks if check.name == "clock"]
    return allowed[0] if allowed and isinstance(allowed[0], float) else None
