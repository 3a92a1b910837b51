"""Kind ``stand-in``: a harmless update that is real work: a new version of a small component.

Layout, under the state folder::

    stand-in/current        → versions/7
    stand-in/versions/7/    payload, manifest (sha256 of the payload)

Applying stages version n+1 with its data fsync'd, then switches ``current`` by one rename. Until
that rename the old version is in force; a staged version that was abandoned is removed. The version
in force and the one before it are kept.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import threading
from pathlib import Path
from typing import ClassVar, Literal

from harness.core.errors import UpdateFailed, UpdateOverran
from harness.core.files import private_folder, sync_folder
from harness.core.settings import DurationOrZero, Scope
from harness.core.timebase import SYSTEM_CLOCK, Clock, Deadline, Stopwatch
from harness.updates.protocol import THIS_HOST, Applied, Site, UpdateContext, UpdateSettings

CHUNK_BYTES = 256 * 1024
CHUNKS = 16
#: What it takes on top of its pace: the last fsyncs on a slow disk.
MARGIN_S = 1.0


class StandInSettings(UpdateSettings):
    """``[update]`` of kind ``stand-in``."""

    learns: ClassVar[bool] = False

    kind: Literal["stand-in"] = "stand-in"
    duration_s: DurationOrZero = 5.0
    """How long it takes."""


class StandInUpdate:
    """Stages, switches and verifies a generated component; takes ``duration_s`` seconds."""

    kind = "stand-in"
    command: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    def __init__(
        self,
        settings: StandInSettings,
        site: Site = THIS_HOST,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self.scope = settings.scope or Scope.GUEST
        self.preserves_memory = settings.preserves_memory
        expected = settings.expectation(settings.duration_s + MARGIN_S, site)
        self.expected_s, self.expected_from = expected
        self._duration_s = settings.duration_s
        self._clock = clock
        self._abandoned = threading.Event()
        self._idle = threading.Event()
        self._idle.set()
        self._staged: Path | None = None
        self._before: Path | None = None

    def check(self) -> None:
        """Nothing to find: it needs no program, and its folder is made by ``prepare``."""

    def prepare(self, context: UpdateContext, deadline: Deadline) -> None:
        """Choose the next version and take its room on the disk. Raises UpdateFailed."""
        self._abandoned.clear()
        home = _home(context)
        try:
            versions = home / "versions"
            private_folder(versions)
            numbers = [int(path.name) for path in versions.iterdir() if path.name.isdecimal()]
            current = home / "current"
            self._before = versions / current.readlink().name if current.is_symlink() else None
            self._staged = versions / str(max(numbers, default=0) + 1)
            private_folder(self._staged, new=True)
            _allocate(self._staged / "payload")
        except OSError as error:
            raise UpdateFailed(f"cannot stage in {home}: {error.strerror}") from error

    def apply(self, context: UpdateContext, deadline: Deadline) -> Applied:
        """Write the payload at its pace, then switch."""
        if self._staged is None:
            raise UpdateFailed("no version is staged: it was never prepared, or was rolled back")
        self._idle.clear()
        try:
            self._write(self._staged, deadline)
            _switch(_home(context), self._staged)
        except OSError as error:
            raise UpdateFailed(f"cannot apply version {self._staged.name}: {error}") from error
        finally:
            self._idle.set()
        return Applied(returncode=0, detail=f"version {self._staged.name} in force")

    def verify(self, context: UpdateContext, deadline: Deadline) -> None:
        """What is in force is the version that was staged, byte for byte; then prune old ones."""
        home = _home(context)
        try:
            current = (home / "current").resolve(strict=True)
            digest = hashlib.sha256((current / "payload").read_bytes()).hexdigest()
            promised = (current / "manifest").read_text().strip()
        except OSError as error:
            raise UpdateFailed(f"nothing in force in {home}: {error.strerror}") from error
        if self._staged is None or current != self._staged.resolve():
            raise UpdateFailed(f"version {current.name} is in force, not the one just applied")
        if digest != promised:
            raise UpdateFailed(f"version {current.name} is damaged: {digest} is not {promised}")
        _prune(home, current, self._before)

    def rollback(self, context: UpdateContext, deadline: Deadline) -> None:
        """Put the version before in force again, if need be, and remove the staged one."""
        if self._staged is None:
            return
        if not self._idle.wait(timeout=deadline.remaining_s()):
            raise UpdateFailed(f"version {self._staged.name} is still being written")
        home = _home(context)
        current = home / "current"
        try:
            if current.exists() and current.resolve() == self._staged.resolve():
                if self._before is None:
                    current.unlink()
                else:
                    _switch(home, self._before)
            shutil.rmtree(self._staged)
        except OSError as error:
            raise UpdateFailed(f"cannot roll back version {self._staged.name}: {error}") from error
        self._staged = None

    def abandon(self) -> None:
        """Stop before the next chunk; the old version stays in force."""
        self._abandoned.set()

    def _write(self, folder: Path, deadline: Deadline) -> None:
        digest = hashlib.sha256()
        watch = Stopwatch(self._clock)
        with open(folder / "payload", "r+b") as file:
            for number in range(1, CHUNKS + 1):
                chunk = os.urandom(CHUNK_BYTES)
                digest.update(chunk)
                file.write(chunk)
                file.flush()
                os.fsync(file.fileno())
                due_s = self._duration_s * number / CHUNKS
                self._keep_pace(due_s - watch.elapsed_s(), deadline)
        with open(folder / "manifest", "w") as manifest:
            manifest.write(digest.hexdigest() + "\n")
            manifest.flush()
            os.fsync(manifest.fileno())
        sync_folder(folder)

    def _keep_pace(self, ahead_s: float, deadline: Deadline) -> None:
        if self._abandoned.wait(timeout=max(0.0, min(ahead_s, deadline.remaining_s()))):
            raise UpdateFailed("the stand-in update was abandoned")
        if deadline.expired:
            raise UpdateOverran(f"the stand-in update did not end within {deadline.limit_s:.1f} s")


def _allocate(file: Path) -> None:
    """Take the room now: a full disk must be known before a guest is paused."""
    with open(file, "wb") as payload:
        os.posix_fallocate(payload.fileno(), 0, CHUNKS * CHUNK_BYTES)


def _home(context: UpdateContext) -> Path:
    return context.state_dir / "stand-in"


def _switch(home: Path, version: Path) -> None:
    temporary = home / ".current.new"
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(version.relative_to(home))
    temporary.replace(home / "current")
    sync_folder(home)


def _prune(home: Path, current: Path, before: Path | None) -> None:
    """Remove what is older than ``current``, but for the version that it replaced."""
    for path in (home / "versions").iterdir():
        if not path.name.isdecimal() or path == before:
            continue
        if int(path.name) < int(current.name):
            shutil.rmtree(path, ignore_errors=True)
