"""Real guests for the tests. The ladder, each rung one step further:

``lab``       one lab for the whole session, of each worker: tiny-1, tiny-2, one with a hostile
              name, and debian-1, in update domains 0, 1, 1, 0; every test finds all running and
              their clocks right, and leaves them so
``libvirt``   a connection of the driver to it
``session``   ``session(name)`` logs in to a guest: shell, facts and clock sampler
``harness``   ``harness(*arguments)`` runs the command line as a process and returns how it ended

Requires: root inside ``scripts/in-namespace`` (no packet leaves, nothing stays behind) and built
images. Without that the tests are skipped, or fail where HARNESS_REQUIRE names ``guest``.
"""

from __future__ import annotations

import gc
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from harness.core.config import load
from harness.core.timebase import Deadline
from harness.guest.connector import SshConnector
from harness.host.driver import LibvirtHypervisor
from harness.lab import guests as labs
from harness.lab.specs import GuestSpec
from harness.lab.state import LabState
from harness.maintenance.guest_access import Login
from harness.maintenance.session import GuestSession
from harness.testing.required import required
from harness.updates.registry import FULL_CONFIG
from tests.clocks import set_right

#: A name is data: libvirt takes this one, and so must everything of ours.
HOSTILE = "a; touch x <&>'\""
GUESTS = (
    GuestSpec("tiny-1", "tiny", update_domain="0", availability_set="web"),
    GuestSpec("tiny-2", "tiny", update_domain="1", availability_set="web", resident=True),
    GuestSpec(HOSTILE, "tiny", update_domain="1", availability_set=None),
    GuestSpec("debian-1", "debian", update_domain="0", availability_set=None),
)


def pytest_configure():
    """What nohup, or ``&`` in a script, has us ignore, the processes we start would ignore too."""
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items):
    """A test that asks for the lab needs guests, and so does each one of the tiers with guests.

    `make test` runs what is marked in a part of its own, after all the others.
    """
    for item in items:
        there = any(item.path.is_relative_to(tier) for tier in _TIERS_WITH_GUESTS)
        if there or "lab" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.guest)


def pytest_collection_finish():
    """Thousands of tests and the libraries stay: the collector need not go through them each time.

    What a test leaves behind is found as before.
    """
    gc.freeze()


_TIERS_WITH_GUESTS = tuple(Path(__file__).with_name(name) for name in ("guest", "drills"))


def _missing() -> str | None:
    if os.environ.get("HARNESS_NAMESPACE") != "inside":
        return "not inside scripts/in-namespace"
    if os.geteuid() != 0:
        return "not root"
    return None


@pytest.fixture(scope="session")
def lab(tmp_path_factory) -> Iterator[LabState]:
    """Boot the session's lab; afterwards remove it."""
    why = _missing()
    if why and required("guest"):
        pytest.fail(f"real guests are required, but: {why}")
    if why:
        pytest.skip(f"no real guests: {why}")
    os.environ["HARNESS_STATE_DIR"] = str(tmp_path_factory.mktemp("state"))
    state = labs.up(GUESTS, deadline=Deadline.after(180), progress=print)
    set_right([guest.name for guest in state.guests], state.config_file)
    yield state
    labs.down(print)


@pytest.fixture(scope="session")
def libvirt(lab) -> Iterator[LibvirtHypervisor]:
    """The driver, connected to the lab's libvirt."""
    hypervisor = LibvirtHypervisor.open(lab.uri, Deadline.after(10))
    yield hypervisor
    hypervisor.close()


@pytest.fixture
def session(lab, libvirt):
    """Log in to guests by name, with settings of ``[clock]``; all is closed after the test."""
    opened = []

    def log_in(name: str, **clock) -> GuestSession:
        deadline = Deadline.after(30)
        flags = {f"clock.{key}": value for key, value in clock.items()}
        config = load(lab.config_file, environment={}, flags=flags, model=FULL_CONFIG).config
        info = libvirt.find(name, deadline)
        section = config.for_guest(info.name, info.uuid)
        login = Login(info, section, config.ssh, libvirt, SshConnector())
        found = GuestSession.open(login, config.clock, deadline)
        opened.append(found)
        return found

    yield log_in
    for one in opened:
        one.close()


@dataclass(frozen=True)
class Ended:
    """How a ``harness`` process ended."""

    code: int
    out: str
    err: str

    @property
    def record(self) -> dict:
        """stdout as JSON."""
        return json.loads(self.out)


@pytest.fixture
def harness(lab, tmp_path):
    """Run the command line on the lab: ``harness("run", "tiny-1", "--json")``.

    Without the page and the history, which take seconds; HARNESS_NO_REPORT="0" has them made.
    """

    def run(*arguments: str, timeout_s: float = 120, **environment: str) -> Ended:
        done = subprocess.run(
            [sys.executable, "-m", "harness", *arguments],
            capture_output=True,
            text=True,
            timeout=timeout_s,
            cwd=tmp_path,
            env={**os.environ, "HARNESS_NO_REPORT": "1", **environment},
        )
        return Ended(done.returncode, done.stdout, done.stderr)

    return run
