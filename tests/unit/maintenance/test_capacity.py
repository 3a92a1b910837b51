"""How many guests at once descriptors and threads allow."""

from __future__ import annotations

import pytest

from harness.core.errors import PlanError
from harness.core.headroom import Headroom, Limit
from harness.core.settings import Scope
from harness.maintenance.capacity import most_at_once, refuse_overload

PLENTY = Limit(10_000, "x")


def test_the_nearer_limit_decides():
    few = Headroom(PLENTY, Limit(80, "pids.max, which is 100"))
    assert most_at_once(few) == (3, "80 threads are left of pids.max, which is 100")
    most, why = most_at_once(Headroom(Limit(64, "ulimit -n, which is 90"), PLENTY))
    assert (most, why) == (2, "64 descriptors are left of ulimit -n, which is 90")


def test_where_no_limit_is_known_nobody_is_refused():
    assert most_at_once(Headroom(None, None)) == (None, "")
    refuse_overload("0", 10_000, Scope.HOST, Headroom(None, None))


def test_just_as_many_as_fit_are_not_refused():
    left = Headroom(PLENTY, Limit(80, "pids.max, which is 100"))
    refuse_overload("0", 3, Scope.GUEST, left)
    with pytest.raises(PlanError, match=r"update domain 0: 4 guests at once .* 3 .*pids.max") as at:
        refuse_overload("0", 4, Scope.GUEST, left)
    assert "--at-most 3" in at.value.hint


@pytest.mark.parametrize(
    ("scope", "left"), [(Scope.HOST, 80), (Scope.GUEST, 20)], ids=["all at once", "none fits"]
)
def test_the_hint_is_one_that_helps(scope, left):
    with pytest.raises(PlanError) as refused:
        refuse_overload("0", 4, scope, Headroom(None, Limit(left, "pids.max, which is 100")))
    assert refused.value.hint == "raise that limit"
