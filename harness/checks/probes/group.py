"""All probes of one guest, from the first that starts to the last that tells.

A probe that cannot start is a reason to skip its checks, known before the pause; one that
started and cannot tell is a reason for an ERROR. Neither keeps a guest from anything.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace

from harness.checks.evidence import Missing, Testimony
from harness.checks.probes.protocol import Probe, Scene
from harness.core.errors import HarnessError
from harness.core.timebase import Deadline
from harness.host.protocol import ProcessIdentity

#: One that hangs must not use up what the others need.
_START_S = 30.0
_STOP_S = 30.0
#: A guest may answer anything, which makes a ValueError of a number that is none.
_TROUBLES = (HarnessError, OSError, ValueError)


class GuestProbes:
    """The probes of one guest."""

    def __init__(self, scene: Scene, probes: Sequence[Probe]) -> None:
        self._scene = replace(scene, parts=frozenset(one.part for one in probes if one.part))
        self._probes = probes
        self._told: dict[type, object] = {}

    @property
    def own_names(self) -> tuple[str, ...]:
        """Names of the user's own checks that the guest answers for."""
        return tuple(own.name for own in self._scene.own)

    @property
    def _watching(self) -> list[Probe]:
        return [one for one in self._probes if one.tells not in self._told]

    def start(self, process: ProcessIdentity | None, deadline: Deadline) -> None:
        """Start all; never raises a HarnessError.

        ``process`` is the guest's QEMU, if it can be seen.
        """
        self._scene = replace(self._scene, process=process)
        for one in self._probes:
            if self._scene.facts.os not in one.serves:
                why = f"nothing can watch for it in a {self._scene.facts.os.title()} guest yet"
                self._told[one.tells] = Missing(why, known_before=True)
                continue
            self._attempt(one, lambda w: w.start(self._scene, deadline.sooner(_START_S)))

    def mark(self, deadline: Deadline) -> None:
        """Have each take its last look before the pause; never raises a HarnessError."""
        for one in self._watching:
            self._attempt(one, lambda w: w.mark(deadline.sooner(_START_S)))

    def pausing(self) -> None:
        """Hand it on, as ``paused`` does."""
        for one in self._watching:
            with suppress(Exception):
                one.pausing()

    def paused(self) -> None:
        """Hand it on; nothing that goes wrong here is worth a guest's resume."""
        for one in self._watching:
            with suppress(Exception):
                one.paused()

    def resuming(self) -> None:
        """Hand it on, as ``paused`` does."""
        for one in self._watching:
            with suppress(Exception):
                one.resuming()

    def stop(self, deadline: Deadline) -> Testimony:
        """What each has to tell, or why it does not; never raises a HarnessError."""
        for one in reversed(self._watching):
            try:
                self._told[one.tells] = one.stop(deadline.sooner(_STOP_S))
            except _TROUBLES as error:
                self._told[one.tells] = Missing(_reason(error), known_before=False)
        self.close()
        return self._told

    def silence(self) -> Testimony:
        """What is known when no probe could be asked after the pause."""
        why = Missing("its probes could not be asked after the pause", known_before=False)
        return {**{one.tells: why for one in self._probes}, **self._told}

    def close(self) -> None:
        """Let go of everything; never raises."""
        for one in self._probes:
            one.close()
        self._scene.close()

    def _attempt(self, one: Probe, step: Callable[[Probe], None]) -> None:
        try:
            step(one)
        except _TROUBLES as error:
            self._told[one.tells] = Missing(_reason(error), known_before=True)
            one.close()


def _reason(error: Exception) -> str:
    if isinstance(error, HarnessError):
        return error.message
    return f"{type(error).__name__}: {str(error)[:200]}"
