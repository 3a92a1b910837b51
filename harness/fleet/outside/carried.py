"""What of this machine's configuration goes along to the host that carries a maintenance out.

What this machine says of the maintenance is laid over the host's own harness.toml. How guests are
logged in to, what hosts share, and who gets reports are its own, as keys, files and names are.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from harness.core.config import Loaded

_KEYS = (
    *("accelerator", "access", "budget_s", "resume_reserve_s", "resume_patience_s", "soak_s"),
    *("spread", "at_most", "prepare_timeout_s", "mend_timeout_s"),
    *("events.notice_s", "events.time_scale"),
)
_SECTIONS = ("update.", "clock.", "checks.")


def carried(loaded: Loaded) -> dict[str, Any]:
    """Return the settings that were given here and go along, by dotted key."""
    return {
        key: value
        for key, value, _ in loaded.shown()
        if value is not None and key in loaded.origins and _goes_along(key)
    }


def left_here(loaded: Loaded) -> Sequence[str]:
    """Return the keys that a file or the environment sets here and that do not go along."""
    return sorted(key for key in loaded.origins if key != "uri" and not _goes_along(key))


def _goes_along(key: str) -> bool:
    return key in _KEYS or key.startswith(_SECTIONS)
