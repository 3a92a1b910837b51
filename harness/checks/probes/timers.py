"""Has two periodic timers run in the guest, and asks systemd for its timer units."""

from __future__ import annotations

from harness.checks.probes.protocol import Probe, Scene
from harness.checks.timers import Timers, Units
from harness.core.errors import ProbeError
from harness.core.timebase import NS_PER_S, Deadline

_INTERVAL_MS = 250


class TimersProbe(Probe):
    """Counts what fires in the guest, and when."""

    tells = Timers
    part = "timers"

    def start(self, scene: Scene, deadline: Deadline) -> None:
        """Start the timers. Raises MissingCapability or ProbeError."""
        self._scene = scene
        scene.ask("units-ask", deadline)
        scene.ask(f"timers-start {_INTERVAL_MS}", deadline)

    def mark(self, deadline: Deadline) -> None:
        """What systemd said, which takes its time; what is late from now on counts.

        Raises ProbeError.
        """
        self._before = self._units(deadline)
        self._scene.ask("timers-mark", deadline)

    def stop(self, deadline: Deadline) -> Timers:
        """What has fired, and systemd's timer units again. Raises ProbeError."""
        answer = self._scene.ask("timers-read", deadline)
        if self._before is not None:
            self._scene.ask("units-ask", deadline)
        try:
            fired, late_ns, burst, realtime_burst = map(int, answer.split())
        except ValueError as error:
            raise ProbeError(f"the timers answer nonsense: {answer[:80]!r}") from error
        return Timers(
            interval_s=_INTERVAL_MS / 1000,
            fired=fired,
            late_s=late_ns / NS_PER_S,
            burst=burst,
            realtime_burst=realtime_burst,
            units_before=self._before,
            units_after=self._units(deadline) if self._before else None,
        )

    def _units(self, deadline: Deadline) -> Units | None:
        """What systemd said; None where there is no systemd, or no timer unit."""
        told = self._scene.ask("units", deadline)
        return None if told == "none" else parse_units(bytes.fromhex(told).decode(errors="replace"))


def parse_units(text: str) -> Units | None:
    """Blocks of ``Name=value`` lines, as ``systemctl show`` prints them."""
    found = {}
    for block in text.split("\n\n"):
        pairs = dict(line.partition("=")[::2] for line in block.splitlines())
        if pairs.get("Id"):
            state, last = pairs.get("ActiveState", ""), pairs.get("LastTriggerUSec", "")
            found[pairs["Id"]] = (state, last)
    return Units(found) if found else None
