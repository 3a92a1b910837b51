"""A KVM host of our own for the tests. The ladder:

``box``     the lab box, up for the whole session: ``box.sh("uname -r")``,
            ``box.harness("run", "kvm-1")`` as a process in it
``guests``  two KVM guests in it, in update domains 0 and 1, from tests/kvm/inside.py

Requires: HARNESS_REQUIRE=kvm, as `make test-kvm` sets it; else the tests are skipped, because the
box takes a machine of two cores for itself. HARNESS_KVM_BOX names the state folder of a box that
is up already: it is used, and left up.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from dataclasses import dataclass

import pytest

from harness.lab.box import ssh, state
from harness.timebase import Deadline, NotYet, wait_for

CONFIG = "/root/.local/state/harness/lab/kvm.toml"
#: A box that says nothing for a minute has died; nobody waits until the command is out of time.
_OPTIONS = ("-o", "BatchMode=yes", "-o", "ServerAliveInterval=15", "-o", "ServerAliveCountMax=4")
#: What ssh ends with when it has lost the box.
_LOST = 255


def pytest_collection_modifyitems(items):
    """Booting the box, and guests in it, is part of the first test's time."""
    for item in items:
        if "box" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.kvm)
            item.add_marker(pytest.mark.timeout(600))


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
        """Run a line of shell in it."""
        done = subprocess.run(
            ssh.command(state.load(), [command], _OPTIONS),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout_s,
        )
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


@pytest.fixture(scope="session")
def box(tmp_path_factory) -> Box:
    """Boot the box; afterwards remove it."""
    if "kvm" not in os.environ.get("HARNESS_REQUIRE", "").split(","):
        pytest.skip("no KVM host: `make test-kvm` boots one")
    given = os.environ.get("HARNESS_KVM_BOX")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HARNESS_STATE_DIR", given or str(tmp_path_factory.mktemp("state")))
        found = Box()
        found.outside("sync" if given else "up")
        yield found
        if not given:
            found.outside("down")


@pytest.fixture(scope="session")
def guests(box) -> Box:
    """The box with two KVM guests that answer SSH."""
    if box.sh(f"test -e {CONFIG} && virsh domstate kvm-1 | grep -q running").code:
        bring_up(box, "kvm-1", "kvm-2")
    return box


def bring_up(box: Box, *names: str) -> None:
    """Boot guests in the box.

    A guest's boot takes an emulated box with it now and then (docs/lab-box.md). Then the box is
    made anew, once; a box that was given is left as it is, to be looked at.
    """
    words = shlex.join([".venv/bin/python", "-m", "tests.kvm.inside", *names])
    ended = box.sh(f"cd /opt/harness && {words}", timeout_s=500)
    if ended.code == _LOST and "HARNESS_KVM_BOX" not in os.environ:
        sys.stderr.write("the box died while its guests booted; another one is booted\n")
        box.outside("down")
        box.outside("up")
        ended = box.sh(f"cd /opt/harness && {words}", timeout_s=500)
    assert ended.code == 0, ended.err
    assert ended.out.strip() == CONFIG


def until_state(box, guest: str, wanted: str) -> None:
    """Wait until libvirt in the box says so."""

    def look() -> None:
        found = box.sh(f"virsh domstate {guest}").out.strip()
        if found != wanted:
            started = box.sh("tail -3 /tmp/started").out
            raise NotYet(f"{guest} is {found}, not {wanted}: {started}")

    deadline = Deadline.after(60)
    wait_for(look, what=f"{guest} {wanted}", deadline=deadline, interval_s=0.2)
