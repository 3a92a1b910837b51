"""A host whose kernel is replaced by its run: the playbook loses it, waits, and asks again.

On hosts that are stand-ins, with the oldest and the newest ansible-core.
"""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.timeout(600)


@pytest.mark.parametrize(
    "given", [{"options": {"kind": "kernel"}}, {"return_within": "5m"}], ids=["its kind", "a limit"]
)
def test_a_host_that_goes_on_in_another_kernel_is_asked_again(fleet, given):
    """It is begun once, has changed, and the waves after it are done."""
    fleet.change("h2", leaves="4")
    done = fleet.play(**given)
    assert done.code == 0, done.out
    assert (fleet.begun[0], sorted(fleet.begun)) == ("h2", ["h1", "h2", "h3"])
    assert done.recap("h2", "changed") == 1
    calls = (fleet.folder / "h2" / "calls").read_text().splitlines()
    first, again = [one for one in calls if one.startswith("run")]
    assert first == again
    assert "return" not in first
    assert ("--kind=kernel" in first) == ("options" in given)

    same = fleet.play(**given)
    assert (same.code, same.recap("h2", "changed")) == (0, 0)


def test_a_verdict_of_the_next_kernel_is_the_hosts(fleet):
    """Such as that a reset led back to the old one."""
    fleet.change("h2", leaves="1", behaves="fail")
    stopped = fleet.play(options={"kind": "kernel"})
    assert stopped.code != 0
    assert "h2: fail: h2-1: clock: 5 s slow" in stopped.out
    assert fleet.begun == ["h2"]


def test_a_host_that_does_not_come_back_stops_the_rollout(fleet):
    fleet.change("h2", leaves="3600")
    stopped = fleet.play(options={"kind": "kernel"}, return_within="5s")
    assert stopped.code != 0
    assert "h2: not reached" in stopped.out
    assert "whether its guests run is not known" in stopped.out
    assert fleet.begun == ["h2"]


def test_without_a_limit_a_lost_host_is_not_waited_for(fleet):
    """Another kind of update leaves no host silent: there the loss itself is the news."""
    fleet.change("h2", leaves="3600")
    stopped = fleet.play(options={"kind": "sysctl"})
    assert stopped.code != 0
    assert "h2: not reached" in stopped.out
    assert "has not answered for" not in stopped.out


def test_a_limit_that_is_none_is_refused_before_the_host_is_asked(fleet):
    stopped = fleet.play(return_within="soon")
    assert stopped.code != 0
    assert "return_within: 'soon' is no duration such as 15m" in stopped.out
    assert fleet.begun == []
