"""Guests with long names in any script, on real libvirt and QEMU.

Requires: the session's lab, and its libvirtd. Leaves behind: nothing.
"""

from __future__ import annotations

import pytest

from harness.core.timebase import Deadline
from harness.lab import guests as labs
from harness.lab.specs import GuestSpec
from harness.results.folder import find_run
from harness.results.report.html import render
from tests.clocks import set_right

#: Percent-quoted, 267 and 298 bytes. (Of signs of three bytes libvirt's own socket path takes few.)
NAMES = ("Тестовая машина для ночного обновления узла №3", " ".join(["database"] * 27))


@pytest.fixture
def named(lab, tmp_path, monkeypatch):
    """A lab of guests with such names, beside the session's; its state folder."""
    monkeypatch.setenv("HARNESS_STATE_DIR", str(tmp_path / "state"))
    specs = [GuestSpec(name=name, image="tiny", update_domain=name) for name in NAMES]
    state = labs.up(specs, deadline=Deadline.after(180), progress=print)
    set_right(NAMES, state.config_file)
    yield tmp_path / "state"
    labs.down(print)


def test_a_guest_with_a_long_name_in_any_script_can_be_maintained(named, harness):
    """Each in an update domain that bears its name; what the update said is kept, and shown."""
    update = ("--update", "/bin/echo said by the update", "--scope", "guest", "--expected", "1")
    ended = harness("run", *NAMES, *update, "--json")
    assert ended.code == 0, ended.err
    guests = {guest["name"]: guest for guest in ended.record["guests"]}
    assert set(guests) == set(NAMES)
    assert all(guest["pause_window_s"] is not None for guest in guests.values())
    folder = find_run(named, None)
    outputs = [file.read_text() for file in folder.path.glob("update-*.log")]
    assert outputs == ["said by the update\n"] * 2
    assert all((folder.guest(name) / "clock-samples.json").exists() for name in NAMES)
    page = render(folder)
    assert all(f"update of update domain {name}" in page for name in NAMES)
