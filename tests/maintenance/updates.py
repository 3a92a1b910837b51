"""Updates that do what a test wants: a HostUpdate of hooks, which remembers what it was asked."""

from __future__ import annotations

import threading
from collections.abc import Callable

from harness.core.settings import Scope
from harness.updates.protocol import Applied


def nothing() -> None:
    """Do no harm."""


class Hooked:
    """An update of no consequence; each hook is called at its stage and may raise or meddle."""

    kind = "hooked"
    preserves_memory = True
    expected_s = 0.1
    expected_from = "the test"
    command: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    def __init__(
        self,
        apply: Callable[[], object] = nothing,
        *,
        prepare: Callable[[], object] = nothing,
        verify: Callable[[], object] = nothing,
        rollback: Callable[[], object] = nothing,
        scope: Scope = Scope.GUEST,
    ) -> None:
        self.scope = scope
        self.asked: list[str] = []
        self.abandoned = threading.Event()
        self._hooks = {"prepare": prepare, "apply": apply, "verify": verify, "rollback": rollback}

    def _do(self, stage: str) -> None:
        self.asked.append(stage)
        self._hooks[stage]()

    def check(self) -> None:
        """Find nothing."""

    def prepare(self, context, deadline) -> None:
        self._do("prepare")

    def apply(self, context, deadline) -> Applied:
        self._do("apply")
        return Applied(returncode=0, detail="applied")

    def verify(self, context, deadline) -> None:
        self._do("verify")

    def rollback(self, context, deadline) -> None:
        self._do("rollback")

    def abandon(self) -> None:
        self.asked.append("abandon")
        self.abandoned.set()


def hanging(first: Callable[[], object] = nothing, **hooks) -> Hooked:
    """An update that does ``first`` and does not end before it is abandoned."""

    def hang() -> None:
        first()
        update.abandoned.wait(20)

    update = Hooked(hang, **hooks)
    return update


def raising(error: BaseException) -> Callable[[], None]:
    """A hook that raises."""

    def fail() -> None:
        raise error

    return fail
