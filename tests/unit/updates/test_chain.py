"""Several updates in one window, and which updates share one."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from harness.core.errors import PlanError, UpdateFailed, UpdateOverran
from harness.core.settings import Scope
from harness.core.timebase import Deadline
from harness.updates.chain import GuestChain, chained
from harness.updates.protocol import (
    Applied,
    GuestUpdate,
    Needs,
    Progress,
    SeveralUpdates,
    UpdateContext,
)
from harness.updates.windows import shared_windows

CONTEXT = UpdateContext("r", Path(), "d", ("web1",), Path(), 9.0)


class Told:
    """An update that writes down what is asked of it; a stage named in ``fails`` raises."""

    preserves_memory = True
    expected_from = "the test"
    command: tuple[str, ...] = ()

    def __init__(self, kind, log=None, *, fails=None, scope=Scope.HOST, expected_s=1.0, error=None):
        self.kind, self.scope, self.expected_s = kind, scope, expected_s
        self.log = log if log is not None else []
        self.fails, self.error = fails, error or UpdateFailed("no", returncode=7)
        self.warnings = (f"{kind} warns",)

    def _do(self, stage: str) -> None:
        self.log.append(f"{stage} {self.kind}")
        if stage == self.fails:
            raise self.error

    def check(self):
        self._do("check")

    def prepare(self, context, deadline):
        self._do("prepare")

    def apply(self, context, deadline):
        self._do("apply")
        return Applied(0, detail=f"{self.kind} is done")

    def verify(self, context, deadline):
        self._do("verify")

    def rollback(self, context, deadline):
        self._do("rollback")

    def abandon(self):
        self._do("abandon")


class Replacing(Told):
    """One that replaces the QEMU of its guests."""

    def examine(self, guests, hypervisor, deadline):
        self._do("examine")

    def needs(self, guests):
        return Needs(3.0 * guests, 2.0 + guests)


def chain_of(**fails) -> tuple[Any, list[str]]:
    log: list[str] = []
    return chained([Told(kind, log, **more) for kind, more in fails.items()]), log


def soon() -> Deadline:
    return Deadline.after(5)


def test_one_update_is_itself():
    one = Told("a")
    assert chained([one]) is one


def test_several_are_applied_in_order_and_said_to_be():
    """Their expected durations add up; what each did is in what is told."""
    chain, log = chain_of(a={}, b={"expected_s": 2.5}, c={})
    assert [isinstance(chain, one) for one in (SeveralUpdates, GuestUpdate)] == [True, False]
    assert (chain.kind, chain.expected_s) == ("a+b+c", 4.5)
    assert chain.warnings == ("a warns", "b warns", "c warns")
    chain.check()
    chain.prepare(CONTEXT, soon())
    applied = chain.apply(CONTEXT, soon())
    chain.verify(CONTEXT, soon())
    stages = ("check", "prepare", "apply", "verify")
    assert log == [f"{stage} {kind}" for stage in stages for kind in "abc"]
    assert (applied.returncode, applied.detail) == (0, "a: a is done; b: b is done; c: c is done")
    assert [one.progress for one in chain.parts] == [Progress.APPLIED] * 3


def test_what_fails_is_rolled_back_with_what_came_before_in_reverse():
    """What was not begun is left alone; the status is that of the one that failed."""
    chain, log = chain_of(a={}, b={"fails": "apply"}, c={})
    chain.prepare(CONTEXT, soon())
    with pytest.raises(UpdateFailed, match="^b: no") as caught:
        chain.apply(CONTEXT, soon())
    assert caught.value.returncode == 7
    del log[:]
    chain.rollback(CONTEXT, soon())
    assert log == ["rollback b", "rollback a"]
    assert [one.progress for one in chain.parts] == [
        Progress.ROLLED_BACK,
        Progress.ROLLED_BACK,
        Progress.WAITING,
    ]
    chain.prepare(CONTEXT, soon())  # the next update domain begins anew
    assert {one.progress for one in chain.parts} == {Progress.WAITING}


def test_nothing_is_rolled_back_under_what_could_not_be():
    """The first to fail ends it, and names those that are in force still."""
    chain, log = chain_of(a={}, b={}, c={"fails": "rollback"})
    chain.prepare(CONTEXT, soon())
    chain.apply(CONTEXT, soon())
    with pytest.raises(UpdateFailed, match="c: no; not rolled back therefore: b, a"):
        chain.rollback(CONTEXT, soon())
    assert not [line for line in log if line in ("rollback a", "rollback b")]


def test_an_update_that_overran_is_said_to_have():
    """It is ended otherwise than one that failed."""
    chain, _ = chain_of(a={"fails": "apply", "error": UpdateOverran("late", hint="h")}, b={})
    chain.prepare(CONTEXT, soon())
    with pytest.raises(UpdateOverran, match="^a: late .hint: h"):
        chain.apply(CONTEXT, soon())


def test_all_that_is_not_in_force_is_told():
    chain, _ = chain_of(a={"fails": "verify"}, b={}, c={"fails": "verify"})
    chain.prepare(CONTEXT, soon())
    chain.apply(CONTEXT, soon())
    with pytest.raises(UpdateFailed, match="^a: no; c: no$"):
        chain.verify(CONTEXT, soon())


def test_nothing_more_is_begun_once_it_is_abandoned():
    """Whoever abandons does so from another thread, while the first is being applied."""
    log: list[str] = []
    first, second = Told("a", log), Told("b", log)
    begun, go_on = threading.Event(), threading.Event()

    def apply(context, deadline):
        begun.set()
        go_on.wait(5)
        return Applied(0)

    first.apply = apply
    chain = chained([first, second])
    chain.prepare(CONTEXT, soon())
    errors: list[BaseException] = []

    def work() -> None:
        try:
            chain.apply(CONTEXT, soon())
        except UpdateFailed as error:
            errors.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    assert begun.wait(5)
    chain.abandon()
    go_on.set()
    thread.join(5)
    assert "abandoned before b was begun" in str(errors[0])
    assert "apply b" not in log
    assert {"abandon a", "abandon b"} <= set(log)
    del log[:]
    chain.rollback(CONTEXT, soon())
    assert log == ["rollback a"]


def test_the_last_of_several_may_replace_the_qemu_of_its_guests():
    """It is asked who can take part; what the others take is added to what it needs."""
    log: list[str] = []
    chain = chained([Told("a", log, expected_s=1.5), Replacing("qemu", log)])
    assert isinstance(chain, GuestUpdate)
    assert isinstance(chain, GuestChain)
    assert chain.needs(2) == Needs(7.5, 4.0)
    chain.examine((), None, soon())
    assert log == ["examine qemu"]


def guest(kind: str, **more) -> Told:
    return Told(kind, scope=Scope.GUEST, **more)


@pytest.mark.parametrize(
    ("updates", "windows"),
    [
        ([Told("a")], [[0]]),
        ([Told("a"), Told("b")], [[0, 1]]),
        ([Told("a"), guest("b"), guest("c")], [[0], [1, 2]]),
        ([guest("a"), Told("b"), guest("c")], [[0], [1], [2]]),
        ([guest("a"), Replacing("qemu", scope=Scope.GUEST)], [[0, 1]]),
        ([Replacing("qemu", scope=Scope.GUEST), guest("a")], [[0], [1]]),
        ([Told("packages"), Replacing("qemu", scope=Scope.GUEST)], [[0], [1]]),
    ],
)
def test_updates_of_one_scope_that_follow_one_another_share_a_window(updates, windows):
    """Nothing follows the one that replaces QEMU: what fails then would not take it back."""
    assert shared_windows(updates) == windows


@pytest.mark.parametrize(
    ("kinds", "why"),
    [
        (("command", "hold"), "kind hold lasts until its window's time is over"),
        (("packages", "kernel"), "kind kernel ends this host's kernel, and the run with it"),
        (("packages", "command", "packages"), "2 updates of kind packages in one plan"),
        (("qemu", "qemu"), "2 updates of kind qemu"),
        (("libvirt", "libvirt"), "2 updates of kind libvirt"),
        (("stand-in", "stand-in"), "2 updates of kind stand-in"),
        (("adopt", "qemu"), "kinds adopt and qemu are in one plan"),
    ],
)
def test_what_makes_no_sense_together_is_refused(kinds, why):
    with pytest.raises(PlanError, match=why) as caught:
        shared_windows([Told(kind) for kind in kinds])
    assert caught.value.hint


def test_the_same_command_twice_makes_sense():
    assert shared_windows([Told("command"), Told("command"), Told("sysctl")]) == [[0, 1, 2]]
