"""Looks at what lives in the guest: processes, mounts, TCP connections."""

from __future__ import annotations

from harness.checks.guest_life import Life, Look, parse, parse_files, parse_windows
from harness.checks.probes.protocol import Probe, Scene
from harness.core.errors import ProbeError
from harness.core.timebase import Deadline
from harness.guest import windows
from harness.guest.facts import GuestOs


class LifeProbe(Probe):
    """Two looks before the pause, one after it."""

    tells = Life
    part = "life"
    serves = frozenset(GuestOs)

    def start(self, scene: Scene, deadline: Deadline) -> None:
        """The first look. Raises ProbeError if it shows nothing."""
        self._scene = scene
        self._first = self._look(deadline)

    def mark(self, deadline: Deadline) -> None:
        """The second look, right before the pause."""
        self._before = self._look(deadline)

    def stop(self, deadline: Deadline) -> Life:
        """The look after."""
        after = self._look(deadline)
        limit_s = self._scene.settings.long_running_s
        return Life(self._first, self._before, after, long_running_s=limit_s)

    def _look(self, deadline: Deadline) -> Look:
        try:
            if self._scene.facts.os is GuestOs.WINDOWS:
                return parse_windows(self._scene.remote.run(windows.LIFE, deadline).stdout)
            if "python3" in self._scene.facts.interpreters:
                told = bytes.fromhex(self._scene.ask("life", deadline))
                return parse(told.decode(errors="replace"))
            return parse_files(self._scene.ask_sh("life", deadline))
        except (ValueError, KeyError, IndexError) as error:
            raise ProbeError(f"what lives in the guest cannot be read: {error}") from error
