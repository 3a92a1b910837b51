"""A second lab beside the session's: up, used, down, without a trace, also when it fails half-way.

Requires: the session's lab, and its libvirtd. Leaves behind: nothing.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.core.errors import HypervisorError, LabError, UsageError
from harness.core.timebase import Deadline
from harness.host.provision import Provisioner
from harness.lab import guests as labs
from harness.lab.specs import GuestSpec
from tests.shown import ROOT, blocks, commands, lines

TUTORIAL = ROOT / "docs" / "tutorial" / "first-maintenance.md"


def shown_by(page: Path) -> Iterator[tuple[list[str], int]]:
    """Yield each harness command of a page's blocks, and the exit code that its comment names."""
    for _, block in blocks(page):
        for _, line in lines(block):
            code = re.search(r"# exit code (\d+)", line)
            for words in commands(line):
                if words[0] == "harness":
                    yield list(words[1:]), int(code[1]) if code else 0


def traces() -> dict[str, object]:
    """Everything that a lab makes on this machine."""
    with Provisioner.open("qemu:///system") as host:
        guests, subnets = host.guest_names(), sorted(map(str, host.subnets()))
    links = subprocess.run(["ip", "-brief", "link"], capture_output=True, text=True, check=True)
    return {
        "guests": guests,
        "subnets": subnets,
        "links": {line.split()[0] for line in links.stdout.splitlines()},
        "files": sorted(Path("/var/lib/libvirt/images").rglob("*")),
        "emulators": subprocess.run(["pgrep", "-c", "qemu"], capture_output=True).stdout,
    }


@pytest.fixture
def own_state(lab, tmp_path, monkeypatch):
    """A state folder of one's own, so that the session's lab is somebody else's."""
    monkeypatch.setenv("HARNESS_STATE_DIR", str(tmp_path / "state"))


def test_up_status_ssh_down_leave_no_trace(own_state, harness):
    """What the tutorial shows, each command with the exit code that it says; and what it does not.

    The life of a lab at the command line; `down` may be repeated.
    """
    before = traces()
    assert harness("lab", "status").code == 3
    told = list(shown_by(TUTORIAL))
    (*used, down), codes = [words for words, _ in told], [code for _, code in told]
    assert used[0][:2] == ["lab", "up"]
    assert down == ["lab", "down"]
    assert codes.count(1) == 2
    for words, code in told[:-1]:
        done = harness(*words)
        assert done.code == code, (words, done.out, done.err)
    assert harness(*used[0]).code == 2
    assert harness("lab", "ssh", "lab-1", "hostname").out == "lab-1\n"
    assert harness("lab", "ssh", "lab-9", "hostname").code == 2
    names = json.loads(harness("lab", "status", "--json").out)["guests"]
    assert [(guest["name"], guest["state"]) for guest in names] == [
        ("lab-1", "running"),
        ("lab-2", "running"),
    ]
    assert traces() != before
    assert harness(*down).code == 0
    assert harness(*down).code == 0
    assert traces() == before


#: A lab with a libvirtd of its own, in namespaces of its own; what its folders' modes are.
UNDER_077 = """
umask 077
set -e
harness() { "$0" -P -m harness "$@"; }
harness lab up -n 1 --image tiny
harness lab ssh lab-1 hostname
find "$HARNESS_STATE_DIR" -type d -printf 'mode %m\\n' | sort -u
harness lab down
"""


def test_a_lab_comes_up_under_the_umask_of_a_careful_admin(own_state):
    """QEMU's own user gets to its kernel, dnsmasq's to the addresses; state is still private."""
    inside = Path(__file__).parents[2] / "scripts" / "in-namespace"
    outside = {k: v for k, v in os.environ.items() if k != "HARNESS_NAMESPACE"}
    command = [str(inside), "bash", "-c", UNDER_077, sys.executable]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280, env=outside)
    assert done.returncode == 0, (done.stdout, done.stderr)
    assert "lab-1\n" in done.stdout
    assert [line for line in done.stdout.splitlines() if "mode" in line] == ["mode 700"]


BESIDE = """
set -e
harness() { "$0" -P -m harness "$@"; }
ip link add br9 type bridge
ip address add 169.254.169.254/32 dev br9
ip link set br9 up
harness lab up -n 1 --image tiny
harness lab ssh lab-1 hostname
harness lab down
ip address show dev br9
"""


def test_a_lab_comes_up_beside_a_bridge_that_carries_the_metadata_address(own_state):
    """It leaves the address where it is, and says what that costs and what can be done."""
    inside = Path(__file__).parents[2] / "scripts" / "in-namespace"
    outside = {k: v for k, v in os.environ.items() if k != "HARNESS_NAMESPACE"}
    command = [str(inside), "bash", "-c", BESIDE, sys.executable]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280, env=outside)
    assert done.returncode == 0, (done.stdout, done.stderr)
    assert "lab-1\n" in done.stdout
    assert "169.254.169.254 is on br9 already" in done.stderr
    assert "docs/how-to/events.md" in done.stderr
    assert "inet 169.254.169.254/32" in done.stdout


@pytest.mark.parametrize("fault", ["second guest", "silent guests"])
def test_a_lab_that_fails_half_way_cleans_up_after_itself(own_state, monkeypatch, fault):
    """A guest that libvirt refuses, after another is up; guests that never answer."""
    before = traces()
    create = Provisioner.create_guest

    def refuse_the_second(host, xml, name):
        if name == "b":
            raise HypervisorError("refused", operation="starting", guest=name)
        create(host, xml, name)

    def hear_nothing(guests, deadline, lives):
        raise LabError("does not answer SSH", guest=guests[0].name)

    if fault == "second guest":
        monkeypatch.setattr(Provisioner, "create_guest", refuse_the_second)
    else:
        monkeypatch.setattr(labs, "wait_for_ssh", hear_nothing)
    specs = [GuestSpec("a", "tiny"), GuestSpec("b", "tiny")]
    said: list[str] = []
    with pytest.raises((HypervisorError, LabError)):
        labs.up(specs, deadline=Deadline.after(60), progress=said.append)
    assert "cleaning up" in said
    assert traces() == before
    assert labs.existing() is None


def test_a_name_that_is_taken_is_refused_and_the_other_guest_lives_on(own_state, lab):
    """The lab never touches a guest that it did not make."""
    before = traces()
    with pytest.raises(UsageError, match="already a guest called tiny-1"):
        labs.up([GuestSpec("tiny-1", "tiny")], deadline=Deadline.after(60), progress=print)
    assert traces() == before
