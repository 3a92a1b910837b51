"""Has a process of the guest write blocks with fsync, and read them back in the end."""

from __future__ import annotations

import secrets

from harness.checks.disk import DiskWriter
from harness.checks.probes.protocol import Probe, Scene
from harness.core.errors import ProbeError
from harness.core.timebase import NS_PER_S, Deadline

#: So many blocks have to be on disk before the pause; a run waits no longer for them.
_BLOCKS_FIRST = 2
_FIRST_S = 10.0
#: After the pause as well: a guest that resumed a moment ago has not written yet.
_AGAIN_S = 5.0


class DiskProbe(Probe):
    """Writes until it is stopped; the file is removed in the end."""

    tells = DiskWriter
    part = "disk"

    def start(self, scene: Scene, deadline: Deadline) -> None:
        """Begin to write. Raises MissingCapability, or ProbeError with the guest's reason."""
        self._scene = scene
        self._folder = scene.settings.disk_folder
        key = secrets.token_hex(16)
        scene.ask(f"disk-start {key} {self._folder.encode().hex()}", deadline)

    def mark(self, deadline: Deadline) -> None:
        """Something has to be on disk before the pause. Raises DeadlineExpired."""
        if self._wait_for(_BLOCKS_FIRST, _FIRST_S, deadline) < _BLOCKS_FIRST:
            raise ProbeError(f"nothing could be written to {self._folder} in time")

    def stop(self, deadline: Deadline) -> DiskWriter:
        """Have all of it read back. Raises ProbeError."""
        first = int(self._scene.ask("disk-count", deadline))
        # One may have been under way since before the pause; the next one is surely new.
        self._wait_for(first + 2, _AGAIN_S, deadline)
        words = self._scene.ask("disk-stop", deadline).split(" ", 4)
        try:
            count, lost, torn, stalled_ns = map(int, words[:4])
        except ValueError as error:
            raise ProbeError(f"the disk writer answers nonsense: {words}") from error
        return DiskWriter(
            folder=self._folder,
            acknowledged=count,
            at_first_look=first,
            lost=lost,
            torn=torn,
            stalled_s=stalled_ns / NS_PER_S,
            problem=None if words[4] == "-" else words[4],
        )

    def _wait_for(self, wanted: int, wait_s: float, deadline: Deadline) -> int:
        """How many blocks there are once there are ``wanted``, or after ``wait_s``."""
        return int(self._scene.ask(f"disk-wait {wanted} {wait_s}", deadline))
