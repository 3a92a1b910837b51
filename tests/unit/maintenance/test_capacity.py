"""How many guests at once descriptors and threads allow."""

from __future__ import annotations

import pytest

from harness.core.errors import PlanError
from harness.core.headroom import DaemonLimits, Headroom, Limit
from harness.core.settings import Scope
from harness.maintenance.capacity import (
    connections_of,
    most_at_once,
    most_connected,
    refuse_full_daemon,
    refuse_overload,
    warn_of_turns,
)

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


def _daemon(left: int | None, workers: int | None = None) -> DaemonLimits:
    limit = None if left is None else Limit(left, "max_clients of libvirtd, which is 9")
    return DaemonLimits("libvirtd", limit, workers)


@pytest.mark.parametrize("guests", [1, 2, 3, 10, 60])
def test_as_many_guests_as_connections_are_said_to_suffice_for_are_not_refused(guests):
    """And one fewer connection is."""
    needed = connections_of(guests, guests)
    refuse_full_daemon(guests, guests, _daemon(needed))
    assert most_connected(_daemon(needed)) == guests
    with pytest.raises(
        PlanError, match=rf"{guests} guests take {needed} .*max_clients of lib"
    ) as at:
        refuse_full_daemon(guests, guests, _daemon(needed - 1))
    assert "virt-admin" in at.value.hint
    assert (f"no more than {guests - 1} guests" in at.value.hint) == (guests > 1)


def test_connections_that_are_not_known_to_be_limited_refuse_nobody():
    refuse_full_daemon(10_000, 10_000, _daemon(None))
    assert most_connected(_daemon(None)) is None


def test_who_waits_for_a_worker_is_told():
    domains = {"0": 20, "1": 21}
    assert [line.split(":")[0] for line in warn_of_turns(domains, _daemon(None, 20))] == [
        "update domain 1"
    ]
    assert warn_of_turns(domains, _daemon(None)) == ()
