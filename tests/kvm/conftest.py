"""A KVM host of our own for the tests. The ladder:

``box``     the lab box, up for the whole session: ``box.sh("uname -r")``,
            ``box.harness("run", "kvm-1")`` as a process in it
``guest``   the KVM guest kvm-1 in it, from tests/kvm/inside.py
``guests``  it and kvm-2, in update domains 0 and 1

An emulated box has one CPU, so two of them, with a file of tests each at a time, take not much
more than half of the time on two cores: `pytest -n 2 --dist loadfile`, as `make test-kvm` has it.
One after the other works as well. (Not loadgroup: with pytest 9.2 it spreads the tests of a group
over all boxes and says nothing, pytest-xdist issue 1386.)

Requires: HARNESS_REQUIRE=kvm, as `make test-kvm` sets it; else the tests are skipped, because the
box takes a machine of two cores for itself. HARNESS_KVM_BOX names the state folder of a box that
is up already: it is used, and left up. What emulation does now and then: tests/losses.py.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from inspect import signature
from typing import Any

import pytest

from harness.lab.box import ssh, state
from harness.testing.required import required
from tests import losses

CONFIG = "/root/.local/state/harness/lab/kvm.toml"
#: What ssh ends with when it has no connection (any more).
_NO_CONNECTION = 255
_LOST = pytest.StashKey[losses.Losses]()
#: Fixture → the guests it promises.
GUESTS = {"guest": ("kvm-1",), "guests": ("kvm-1", "kvm-2")}


def pytest_configure(config):
    """One count for the session."""
    config.stash[_LOST] = losses.Losses()


def pytest_collection_modifyitems(items):
    """Booting the box, and guests in it, is part of the first test's time; so is a box lost."""
    for item in items:
        if "box" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.kvm)
            if item.get_closest_marker("timeout") is None:
                item.add_marker(pytest.mark.timeout(900))


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem):
    """A test that emulation failed is done again, as a whole, in another box if need be."""
    names = [
        one for fixture in GUESTS.keys() & set(pyfuncitem.fixturenames) for one in GUESTS[fixture]
    ]
    try:
        return (yield)
    except Exception as error:
        fault = _fault(error, pyfuncitem, names)
        if fault is None:
            raise
        first = [fault]

    box = pyfuncitem.funcargs["box"]

    def again() -> None:
        if first:
            raise first.pop()
        if names:
            have_guests(box, *names)
        words = signature(pyfuncitem.obj).parameters
        pyfuncitem.obj(**{word: pyfuncitem.funcargs[word] for word in words})

    pyfuncitem.config.stash[_LOST].outlive(pyfuncitem.name, again, box.renew)
    return True


def _fault(error: Exception, test: pytest.Function, names: list[str]) -> losses.Fault | None:
    """What emulation did, if a test failed for that."""
    arguments: dict[str, Any] = test.funcargs
    if isinstance(error, losses.Fault):
        return error
    if names and not test.get_closest_marker("ends_guests"):
        try:
            losses.look_for_end(names, arguments["box"].sh)
        except losses.Fault as found:
            return found
    return None


def pytest_sessionfinish(session):
    """A process of xdist's has nobody to tell but the one that started it."""
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["losses"] = session.config.stash[_LOST].told


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node):
    """Which gathers what its processes tell in the end."""
    node.config.stash[_LOST].told += getattr(node, "workeroutput", {}).get("losses", [])


def pytest_terminal_summary(terminalreporter, config):
    """What emulation did is not passed over in silence, though every test is green."""
    told = config.stash[_LOST].told
    if told:
        terminalreporter.section(f"emulation failed {len(told)} times", red=True)
        terminalreporter.write_line("\n".join(told))


@dataclass(frozen=True)
class Ended:
    """How a command in the box ended."""

    code: int
    out: str
    err: str

    @property
    def record(self) -> dict:
        """stdout as JSON."""
        return json.loads(self.out)


class Box:
    """The lab box."""

    def sh(self, command: str, timeout_s: float = 180) -> Ended:
        """Run a line of shell in it. Raises BoxLost if it does not answer any more."""
        done = subprocess.run(
            ssh.command(state.load(), [command], losses.OPTIONS),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout_s,
        )
        if done.returncode == _NO_CONNECTION:
            losses.look()
        return Ended(done.returncode, done.stdout, done.stderr)

    def harness(self, *arguments: str, timeout_s: float = 180) -> Ended:
        """Run the command line in it, on its guests."""
        return self.sh(f"HARNESS_CONFIG={CONFIG} {shlex.join(['harness', *arguments])}", timeout_s)

    def start(self, *arguments: str) -> None:
        """Start ``harness`` in it and leave it running; its output is in /tmp/started."""
        words = shlex.join(["harness", *arguments])
        line = f"HARNESS_CONFIG={CONFIG} setsid {words} >/tmp/started 2>&1 </dev/null &"
        assert self.sh(line).code == 0

    def outside(self, *arguments: str, timeout_s: float = 600) -> str:
        """Run ``harness lab box`` here; what it said."""
        words = [sys.executable, "-m", "harness", "lab", "box", *arguments]
        done = subprocess.run(words, capture_output=True, text=True, timeout=timeout_s)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def renew(self) -> None:
        """Another box in its place, without guests."""
        self.outside("down")
        self.outside("up")


@pytest.fixture(scope="session")
def box(tmp_path_factory) -> Iterator[Box]:
    """Boot the box; afterwards remove it."""
    if not required("kvm"):
        pytest.skip("no KVM host: `make test-kvm` boots one")
    given = os.environ.get("HARNESS_KVM_BOX")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HARNESS_STATE_DIR", given or str(tmp_path_factory.mktemp("state")))
        found = Box()
        found.outside("sync" if given else "up")
        yield found
        if not given:
            found.outside("down")


@pytest.fixture
def guest(box, request) -> Box:
    """The box with one KVM guest that answers SSH."""
    return _with_guests(box, request)


@pytest.fixture
def guests(box, request) -> Box:
    """The box with two KVM guests that answer SSH."""
    return _with_guests(box, request)


def _with_guests(box: Box, request: pytest.FixtureRequest) -> Box:
    booting = partial(have_guests, box, *GUESTS[request.fixturename])
    request.config.stash[_LOST].outlive("booting guests", booting, box.renew)
    return box


def have_guests(box: Box, *names: str) -> None:
    """Boot these guests, if they do not run already."""
    run = " && ".join(f"virsh domstate {name} | grep -q running" for name in names)
    if box.sh(f"test -e {CONFIG} && {run}").code:
        bring_up(box, *names)


def bring_up(box: Box, *names: str) -> None:
    """Boot guests in the box."""
    words = shlex.join([".venv/bin/python", "-m", "tests.kvm.inside", *names])
    ended = box.sh(f"cd /opt/harness && {words}", timeout_s=500)
    assert ended.code == 0, ended.err
    assert ended.out.strip() == CONFIG


def passed(ended: Ended) -> dict:
    """The record of a run that kept every promise. Raises GuestStalled if emulation did not."""
    if ended.code == 1:
        losses.look_for_stall(ended.record)
    assert ended.code == 0, ended.out + ended.err
    return ended.record


def until_state(box, guest: str, wanted: str) -> None:
    """Wait until libvirt in the box says so. Asked in there: each login is work for the box."""
    look = f'until [ "$(virsh domstate {guest})" = {wanted} ]; do sleep 0.2; done'
    ended = box.sh(f"timeout 120 sh -c {shlex.quote(look)}")
    assert ended.code == 0, f"{guest} is not {wanted}: {box.sh('tail -3 /tmp/started').out}"
