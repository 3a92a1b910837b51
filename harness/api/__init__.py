"""The one way in for programs: plan, maintain, recover, clocks, and host keys to trust.

Nothing here prints, and nothing ends the process. Durations are float seconds (``_s``), points in
time integer nanoseconds since 1970 (``_ns``), offsets guest − host in seconds: negative is slow.
Outcomes are values; exceptions are leaves of :class:`harness.core.errors.HarnessError`, whose
``exit_code`` is that of the command line. One call at a time in one process; any thread, but only
the main thread's calls notice signals. ``docs/reference/api.md`` has examples.
"""

from __future__ import annotations

from harness.api.backend import Backend
from harness.api.configuration import load_config
from harness.api.guests import correct_clocks, find_logins, host_keys, read_clocks, trust
from harness.api.maintenance import Planned, maintain, plan
from harness.api.outside import Outside
from harness.api.recovery import recover

__all__ = [
    "Backend",
    "Outside",
    "Planned",
    "correct_clocks",
    "find_logins",
    "host_keys",
    "load_config",
    "maintain",
    "plan",
    "read_clocks",
    "recover",
    "trust",
]
