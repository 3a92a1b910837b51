"""What holds for every test on real guests."""

from __future__ import annotations

import pytest

from harness.core.timebase import Deadline
from harness.host.lifecycle import GuestState


@pytest.fixture(autouse=True)
def _everybody_runs(lab, libvirt):
    """No test starts from, or leaves behind, a guest that does not run."""
    _assert_running(lab, libvirt, "before")
    yield
    try:
        _assert_running(lab, libvirt, "after")
    finally:
        for guest in lab.guests:
            if libvirt.state(guest.uuid, Deadline.after(10)).state is GuestState.PAUSED:
                libvirt.resume(guest.uuid, Deadline.after(10))


def _assert_running(lab, libvirt, when):
    states = {g.name: libvirt.state(g.uuid, Deadline.after(10)).state for g in lab.guests}
    assert set(states.values()) == {GuestState.RUNNING}, f"{when} the test: {states}"


@pytest.fixture
def script(tmp_path):
    """An executable that does what it is told; returns its path."""

    def write(body: str) -> str:
        path = tmp_path / "update.sh"
        path.write_text(f"#!/bin/sh\n{body}\n")
        path.chmod(0o755)
        return str(path)

    return write
