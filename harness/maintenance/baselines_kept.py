"""What guests were like before the pause, on the disk: for a process that judges them after a boot.

The run that took the baselines ends with its kernel. What is of that kernel only (processes of the
host, its monotonic clock) is left out, or put into the time of the boot that reads it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import astuple, dataclass

from harness.checks.evidence import Observed
from harness.core.errors import InfrastructureError
from harness.core.records import ClockReading
from harness.core.timebase import NS_PER_S
from harness.guest.kernel_log import KernelLog
from harness.host.protocol import ProcessIdentity
from harness.maintenance.before_pause import Baseline
from harness.results.folder import RunFolder
from harness.results.journal import Reading, entries

FILE = "baseline.json"
#: How well the RTC tells the time.
RTC_NS = NS_PER_S


@dataclass(frozen=True)
class Boots:
    """How the clocks of two boots of the host belong together: one line of each tells."""

    ahead_ns: int
    """CLOCK_BOOTTIME of the boot before − that of this boot, at any one moment."""
    uncertainty_ns: int
    """How well that is known."""

    def now_ns(self, before_ns: int) -> int:
        """Return what this boot's CLOCK_BOOTTIME would have said then."""
        return before_ns - self.ahead_ns

    @classmethod
    def of(cls, reading: Reading) -> Boots | None:
        """Read it off a journal; None of one that tells no handover.

        Where CLOCK_REALTIME could not be set by the counter, it is the RTC's: whole seconds.
        """
        left = _last(reading, entries.Leaving)
        arrived = _last(reading, entries.Arrived)
        if left is None or arrived is None:
            return None
        said = arrived[1]
        known_ns = said.uncertainty_ns if isinstance(said, entries.Arrived) else None
        return cls(left[0] - arrived[0], RTC_NS if known_ns is None else known_ns)


def _last(reading: Reading, kind: type[entries.Entry]) -> tuple[int, entries.Entry] | None:
    """The last such entry, and its boot's CLOCK_BOOTTIME − CLOCK_REALTIME."""
    found = [line for line in reading.lines if isinstance(line.entry, kind)]
    if not found or found[-1].entry is None:
        return None
    return found[-1].boottime_ns - found[-1].realtime_ns, found[-1].entry


def keep_baselines(baselines: Mapping[str, Baseline], folder: RunFolder) -> None:
    """Keep them in the folder of the run. Raises InfrastructureError."""
    for name, one in baselines.items():
        said = {
            "clock": one.clock.model_dump(mode="json"),
            "boot_id": one.seen.boot_id,
            "process": astuple(one.seen.process) if one.seen.process is not None else None,
            "kernel_log": one.kernel_log.marker,
        }
        folder.write_guest(name, FILE, said)


def read_baseline(folder: RunFolder, name: str, boots: Boots | None) -> Baseline:
    """Return what a guest was like, in the time of this boot. Raises InfrastructureError."""
    file = folder.guest(name) / FILE
    try:
        said = json.loads(file.read_text())
        clock = ClockReading.model_validate(said["clock"])
        process = ProcessIdentity(*said["process"]) if said["process"] is not None else None
        seen, log = Observed(said["boot_id"], process), KernelLog(said["kernel_log"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InfrastructureError(f"{file}: {error}") from error
    return Baseline(in_time_of(clock, boots), seen, log)


def in_time_of(clock: ClockReading, boots: Boots | None) -> ClockReading:
    """Return a reading whose monotonic part is against this boot's clock, as far as it is known."""
    if boots is None:
        nothing = {"monotonic_s": None, "monotonic_uncertainty_s": None, "host_ahead_s": None}
        return clock.model_copy(update=nothing)
    ahead_s, more_s = boots.ahead_ns / NS_PER_S, boots.uncertainty_ns / NS_PER_S
    update: dict[str, float] = {}
    if clock.monotonic_s is not None and clock.monotonic_uncertainty_s is not None:
        update["monotonic_s"] = clock.monotonic_s + ahead_s
        update["monotonic_uncertainty_s"] = clock.monotonic_uncertainty_s + more_s
    if clock.host_ahead_s is not None:
        update["host_ahead_s"] = clock.host_ahead_s + ahead_s
    return clock.model_copy(update=update)
