"""Several updates in one pause window: one after the other, and taken back in reverse order.

They share the window's deadline. The first that fails ends it: it and those before it are rolled
back, the last one first, each only when the one after it has been.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import replace

from harness.core.errors import HarnessError, UpdateFailed, UpdateOverran
from harness.core.settings import Scope
from harness.core.timebase import Deadline, Stopwatch
from harness.host.protocol import GuestInfo, Hypervisor
from harness.updates.protocol import (
    Applied,
    GuestUpdate,
    HostUpdate,
    Needs,
    Part,
    Progress,
    UpdateContext,
)


class Chain:
    """Two or more updates of the same scope as one."""

    def __init__(self, updates: Sequence[HostUpdate]) -> None:
        self._updates = tuple(updates)
        self.kind = "+".join(one.kind for one in updates)
        self.scope: Scope = updates[0].scope
        self.preserves_memory = all(one.preserves_memory for one in updates)
        self.expected_s = sum(one.expected_s for one in updates)
        self.expected_from = ", ".join(f"{one.kind}: {one.expected_from}" for one in updates)
        self.command: tuple[str, ...] = ()
        self._lock = threading.Lock()
        self._abandoned = False
        self._parts = self._all_waiting()

    @property
    def parts(self) -> tuple[Part, ...]:
        """See :class:`harness.updates.protocol.SeveralUpdates`."""
        with self._lock:
            return tuple(self._parts)

    @property
    def warnings(self) -> tuple[str, ...]:
        """Those of each, in order."""
        return tuple(line for one in self._updates for line in one.warnings)

    def check(self) -> None:
        """Check each. Raises what the first that cannot be applied does."""
        for one in self._updates:
            one.check()

    def prepare(self, context: UpdateContext, deadline: Deadline) -> None:
        """Prepare each, in order. Raises what the first that fails does."""
        with self._lock:
            self._abandoned, self._parts = False, self._all_waiting()
        for one in self._updates:
            one.prepare(context, deadline)

    def apply(self, context: UpdateContext, deadline: Deadline) -> Applied:
        """Apply one after the other. Raises UpdateFailed or UpdateOverran, which name the kind."""
        for number, one in enumerate(self._updates):
            self._begin(number)
            watch = Stopwatch(deadline.clock)
            try:
                applied = one.apply(context, deadline)
            except HarnessError as error:
                self._note(number, duration_s=watch.elapsed_s(), detail=error.message)
                raise _of(one, error) from error
            self._note(
                number,
                progress=Progress.APPLIED,
                duration_s=watch.elapsed_s(),
                returncode=applied.returncode,
                detail=applied.detail,
            )
        codes = [part.returncode for part in self.parts if part.returncode is not None]
        told = (f"{part.kind}: {part.detail}" for part in self.parts if part.detail)
        return Applied(max(codes, default=None), detail="; ".join(told))

    def verify(self, context: UpdateContext, deadline: Deadline) -> None:
        """Verify each; raises UpdateFailed with all that is wrong."""
        wrong = [self._said(one, one.verify, context, deadline) for one in self._updates]
        if told := "; ".join(filter(None, wrong)):
            raise UpdateFailed(told)

    def rollback(self, context: UpdateContext, deadline: Deadline) -> None:
        """Roll back what was begun, the last first. Raises UpdateFailed at the first that fails."""
        self._close()
        begun = [n for n, part in enumerate(self.parts) if part.progress is not Progress.WAITING]
        for number in reversed(begun):
            one = self._updates[number]
            if (why := self._said(one, one.rollback, context, deadline)) is not None:
                left = [self._updates[n].kind for n in reversed(begun) if n < number]
                more = f"; not rolled back therefore: {', '.join(left)}" if left else ""
                raise UpdateFailed(f"{why}{more}")
            self._note(number, progress=Progress.ROLLED_BACK)

    def abandon(self) -> None:
        """Begin no other, and end the one that is being applied."""
        self._close()
        for one in reversed(self._updates):
            one.abandon()

    def _all_waiting(self) -> list[Part]:
        return [Part(one.kind, one.command) for one in self._updates]

    def _begin(self, number: int) -> None:
        """Raises UpdateFailed if the update was abandoned meanwhile."""
        with self._lock:
            if self._abandoned:
                kind = self._updates[number].kind
                raise UpdateFailed(f"the update was abandoned before {kind} was begun")
            self._parts[number] = replace(self._parts[number], progress=Progress.BEGUN)

    def _close(self) -> None:
        with self._lock:
            self._abandoned = True

    def _note(self, number: int, **changes: object) -> None:
        with self._lock:
            self._parts[number] = replace(self._parts[number], **changes)  # type: ignore[arg-type]

    @staticmethod
    def _said(
        one: HostUpdate,
        stage: Callable[[UpdateContext, Deadline], None],
        context: UpdateContext,
        deadline: Deadline,
    ) -> str | None:
        try:
            stage(context, deadline)
        except HarnessError as error:
            return f"{one.kind}: {error}"
        return None


class GuestChain(Chain):
    """Several updates, of which the last replaces the QEMU of its guests."""

    def __init__(self, updates: Sequence[HostUpdate], last: GuestUpdate) -> None:
        super().__init__(updates)
        self._last = last
        self._before_s = sum(one.expected_s for one in updates[:-1])

    def examine(
        self, guests: Sequence[GuestInfo], hypervisor: Hypervisor, deadline: Deadline
    ) -> None:
        """See :class:`harness.updates.protocol.GuestUpdate`."""
        self._last.examine(guests, hypervisor, deadline)

    def needs(self, guests: int) -> Needs:
        """See :class:`harness.updates.protocol.GuestUpdate`."""
        needs = self._last.needs(guests)
        return Needs(self._before_s + needs.expected_s, needs.reserve_s)


def _of(update: HostUpdate, error: HarnessError) -> HarnessError:
    """Return ``error`` with the kind of the one that it is of."""
    said = f"{update.kind}: {error.message}"
    if isinstance(error, UpdateOverran):
        return UpdateOverran(said, guest=error.guest, hint=error.hint)
    returncode = error.returncode if isinstance(error, UpdateFailed) else None
    return UpdateFailed(said, returncode=returncode, guest=error.guest, hint=error.hint)


def chained(updates: Sequence[HostUpdate]) -> HostUpdate:
    """Return the updates of one window as one; a single one is itself."""
    if len(updates) == 1:
        return updates[0]
    last = updates[-1]
    return GuestChain(updates, last) if isinstance(last, GuestUpdate) else Chain(updates)
