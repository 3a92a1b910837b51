"""Runs the user's own executables before, during and after the pause; no shell is involved."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Mapping

from harness.checks.custom import Ended, OwnChecks
from harness.checks.probes.protocol import Probe, Scene
from harness.core.file_names import file_name
from harness.core.files import private_folder
from harness.core.settings import OwnCheckSection
from harness.core.timebase import Deadline
from harness.guest.facts import GuestOs
from harness.host.child_process import UpdateProcess

#: For ending what did not end by itself: TERM, a grace, KILL.
_END_S = 3.0
_SKIPPED = 77


class OwnProbe(Probe):
    """All of one guest's; those of a stage run one after the other."""

    tells = OwnChecks
    serves = frozenset(GuestOs)

    def __init__(self) -> None:
        self._ended: dict[str, tuple[Ended, ...]] = {}
        self._pausing = threading.Event()
        self._over = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self, scene: Scene, deadline: Deadline) -> None:
        """Run the stage before; have a thread ready for the one during."""
        self._scene = scene
        self._run("before", deadline)
        if any("during" in own.stages for own in scene.own):
            self._thread = threading.Thread(target=self._during, name="own checks", daemon=True)
            self._thread.start()

    def paused(self) -> None:
        """Let the thread go; it starts the processes, not the window."""
        self._pausing.set()

    def stop(self, deadline: Deadline) -> OwnChecks:
        """Wait for the stage during, run the one after."""
        self._over.set()
        self._pausing.set()
        if self._thread is not None:
            self._thread.join(deadline.remaining_s())
            if self._thread.is_alive():
                self._note_unended()
        self._run("after", deadline)
        return OwnChecks(dict(self._ended))

    def close(self) -> None:
        """Let the thread end."""
        self._over.set()
        self._pausing.set()

    def _during(self) -> None:
        self._pausing.wait()
        if not self._over.is_set():
            limit_s = sum(own.timeout_s + _END_S for own in self._scene.own)
            self._run("during", Deadline.after(limit_s, self._scene.clock))

    def _note_unended(self) -> None:
        for own in self._scene.own:
            if "during" in own.stages and not self._has(own, "during"):
                self._note(own, Ended("during", None, "has not ended"))

    def _run(self, stage: str, deadline: Deadline) -> None:
        for own in self._scene.own:
            if stage in own.stages and not self._skipped(own):
                self._note(own, self._one(own, stage, deadline.sooner(own.timeout_s)))

    def _one(self, own: OwnCheckSection, stage: str, deadline: Deadline) -> Ended:
        scene = self._scene
        log = f"own-{file_name(own.name)}-{stage}.log"
        mark = f"{scene.run_id}/own/{file_name(scene.name)}/{log}"
        environment = environment_of(scene, own, stage, deadline)
        try:
            private_folder(scene.folder)
            process = UpdateProcess(own.command, environment, mark, scene.folder / log)
        except (OSError, ValueError) as error:
            return Ended(stage, None, f"cannot start {own.command[0]}: {error}")
        status = process.wait(deadline)
        if status is None:
            process.end()
            process.survivors(Deadline.after(_END_S, scene.clock))
            return Ended(stage, None, f"did not end within {deadline.limit_s:g} s, was ended")
        return Ended(stage, status)

    def _note(self, own: OwnCheckSection, ended: Ended) -> None:
        self._ended[own.name] = (*self._ended.get(own.name, ()), ended)

    def _has(self, own: OwnCheckSection, stage: str) -> bool:
        return any(ended.stage == stage for ended in self._ended.get(own.name, ()))

    def _skipped(self, own: OwnCheckSection) -> bool:
        return any(ended.status == _SKIPPED for ended in self._ended.get(own.name, ()))


def environment_of(
    scene: Scene, own: OwnCheckSection, stage: str, deadline: Deadline
) -> Mapping[str, str]:
    """What an executable gets in its environment; names are data, so lists are JSON."""
    mine = {} if own.scope == "host" else {
        "HARNESS_GUEST": scene.name,
        "HARNESS_GUEST_UUID": scene.uuid,
        "HARNESS_GUEST_ADDRESS": scene.address,
    }  # fmt: skip
    return {
        **os.environ,
        **mine,
        "HARNESS_STAGE": stage,
        "HARNESS_CHECK": own.name,
        "HARNESS_GUESTS": json.dumps(scene.update_domain),
        "HARNESS_RUN_ID": scene.run_id,
        "HARNESS_RUN_DIR": str(scene.run_dir),
        "HARNESS_DEADLINE_S": f"{deadline.remaining_s():.3f}",
    }
