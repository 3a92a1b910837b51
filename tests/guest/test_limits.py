"""A libvirtd that takes few connections: said by the plan, as it has the others wait in silence.

Requires: the session's lab. Leaves behind: nothing.
"""

from __future__ import annotations

import re
import subprocess

import pytest

from harness.core.timebase import Deadline
from harness.host.lifecycle import GuestState
from harness.maintenance.capacity import connections_of
from tests.clocks import set_right

TWO = ("tiny-1", "tiny-2")


def virt_admin(*words: str) -> str:
    """What libvirt's own program says of the lab's libvirtd."""
    done = subprocess.run(
        ["virt-admin", "-c", "libvirtd:///system", *words],
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def more_connections(lab):
    """``more_connections(7)``: from now on libvirtd takes seven beside those that are there."""
    names = ("nclients_max", "nclients", "nclients_unauth_max")
    before = virt_admin("server-clients-info", "libvirtd")
    at_first, now, unknown = (int(re.search(rf"{name} *: (\d+)", before)[1]) for name in names)

    def take(clients: int, strangers: int) -> None:
        limits = ("--max-clients", str(clients), "--max-unauth-clients", str(strangers))
        virt_admin("server-clients-set", "libvirtd", *limits)

    yield lambda more: take(now + more, 2)
    take(at_first, unknown)


def test_more_guests_than_libvirtd_has_connections_for_are_refused(
    libvirt, harness, more_connections
):
    """By the plan and the run, not when a deadline has passed; `harness doctor` says it too."""
    more_connections(3)
    for command in (("plan",), ("run", "--duration", "1")):
        ended = harness(*command, *TWO)
        assert ended.code == 2, ended.err
        assert "max_clients of libvirtd" in ended.err
        assert "server-clients-set libvirtd" in ended.err
    found = {one["name"]: one for one in harness("doctor", *TWO, "--json").record["findings"]}
    assert found["libvirt's limits"]["level"] == "problem"
    for name in TWO:
        state = libvirt.state(libvirt.find(name, Deadline.after(10)).uuid, Deadline.after(10))
        assert state.state is GuestState.RUNNING


def test_as_many_connections_as_are_counted_do(lab, harness, more_connections):
    """Beside the two that a command begins with."""
    set_right(TWO, lab.config_file)
    more_connections(connections_of(2, largest=1) + 2)
    ended = harness("run", *TWO, "--duration", "1", "--json")
    assert ended.code == 0, ended.err
