"""A rollout over real SSH, on three hosts with two guests each: what is done to it on the way.

All guests are of one set, so the lease keeps any two hosts apart, and each wave is one host. Every
test is a rollout of its own; however it ends, no guest stays paused.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from harness.testing.required import required
from tests.fleet.hosts import NAMES, Host, three_hosts
from tests.fleet.playbooks import HARNESS, VARIABLES, Controller, end, finish

pytestmark = [pytest.mark.timeout(600), pytest.mark.guest]


@pytest.fixture(scope="module")
def hosts(tmp_path_factory):
    """Boot them once; skips where there can be none."""
    if os.environ.get("HARNESS_NAMESPACE") != "inside":
        why = "not inside scripts/in-namespace"
        if required("guest"):
            pytest.fail(why)
        pytest.skip(why)
    with three_hosts(tmp_path_factory.mktemp("fleet")) as found:
        yield found


@pytest.fixture
def controller(newest, hosts, tmp_path) -> Controller:
    """A controller whose canary is h2, and whose inventory says how each host is reached."""
    return controller_of(newest, hosts, tmp_path)


def controller_of(engine, hosts: dict[str, Host], folder: Path) -> Controller:
    keys = hosts["h1"].folder.parent
    common = [
        *("-o", f"UserKnownHostsFile={keys / 'known_hosts'}", "-o", "StrictHostKeyChecking=yes"),
        *("-o", f"IdentityFile={keys / 'client_key'}", "-o", "IdentitiesOnly=yes", "-F", "none"),
        *("-o", "ServerAliveInterval=1", "-o", "ServerAliveCountMax=5"),
    ]
    inventory = {
        "hosts": {name: {"ansible_host": host.address} for name, host in hosts.items()},
        "vars": {
            **VARIABLES,
            "ansible_user": "root",
            "ansible_ssh_common_args": " ".join(common),
            "rolling_maintenance_executable": HARNESS,
            "rolling_maintenance_canaries": ["h2"],
            "rolling_maintenance_doctor": False,
            "rolling_maintenance_waves_folder": str(folder / "waves"),
        },
    }
    return Controller(engine, folder, inventory)


def begun(hosts: dict[str, Host]) -> dict[str, int]:
    return {name: len(host.runs) for name, host in hosts.items()}


def new_runs(hosts: dict[str, Host], before: dict[str, int]) -> dict[str, int]:
    return {name: len(host.runs) - before[name] for name, host in hosts.items()}


def quick(**more: object) -> dict[str, object]:
    """A maintenance of one guest, in a moment."""
    return {"guests": ["lab-1"], "duration": "500ms", **more}


def test_a_canary_then_the_others_and_the_same_again_changes_nothing(controller, hosts):
    before = begun(hosts)
    options = {"duration": "500ms"}

    first = controller.play("whole", options=options, doctor=True)

    assert first.code == 0
    assert new_runs(hosts, before) == dict.fromkeys(NAMES, 1)
    ended = {name: host.runs[-1].stat().st_ctime_ns for name, host in hosts.items()}
    assert min(hosts, key=lambda name: hosts[name].runs[-1].name) == "h2", ended
    assert "3 of 3 hosts ended well" in first.out

    again = controller.play("whole", options=options)

    assert again.code == 0
    assert new_runs(hosts, before) == dict.fromkeys(NAMES, 1)
    assert [again.recap(name, "changed") for name in NAMES] == [0, 0, 0]


def test_an_update_that_fails_on_the_second_host_stops_the_rollout(controller, hosts, tmp_path):
    script = tmp_path / "update"
    script.write_text('#!/bin/sh\n[ "$(hostname)" != h1 ]\n')
    script.chmod(0o700)
    before = begun(hosts)

    stopped = controller.play("fails", options={"guests": ["lab-1"], "update": str(script)})

    assert stopped.code != 0
    assert new_runs(hosts, before) == {"h1": 1, "h2": 1, "h3": 0}
    assert "rollout fails stops, no further wave begins; h1: " in stopped.out


def test_a_controller_that_is_killed_in_the_pause_and_the_playbook_again(controller, hosts):
    before = begun(hosts)
    playing = controller.start("killed", options=quick(duration="8s"))
    hosts["h2"].until("paused", after=before["h2"])
    end(playing)

    again = controller.play("killed", options=quick(duration="8s"))

    assert again.code == 0
    assert new_runs(hosts, before) == dict.fromkeys(NAMES, 1)
    assert again.recap("h1", "changed") == 1


@pytest.mark.parametrize("how", ["cut off", "its sshd's connections are killed"])
def test_a_host_that_is_lost_in_its_wave_stops_the_rollout_and_the_playbook_again(
    controller, hosts, how
):
    """The run on it goes on: its guests are resumed, and its clocks corrected, without us."""
    before = begun(hosts)
    lost = hosts["h2"]
    playing = controller.start(how, options=quick(duration="8s"))
    lost.until("paused", after=before["h2"])
    if how == "cut off":
        lost.cut()
    else:
        lost.end_connections()
    try:
        stopped = finish(playing)
    finally:
        lost.plug()

    assert stopped.code != 0
    assert "h2: not reached" in stopped.out
    assert new_runs(hosts, before) == {"h1": 0, "h2": 1, "h3": 0}

    again = controller.play(how, options=quick(duration="8s"))
    assert again.code == 0
    assert new_runs(hosts, before) == dict.fromkeys(NAMES, 1)


def test_of_two_controllers_at_once_the_lease_refuses_one(newest, controller, hosts, tmp_path):
    other = controller_of(newest, hosts, tmp_path / "other")
    before, refused_now = begun(hosts), tmp_path / "refused"
    script = tmp_path / "update"
    script.write_text(f"#!/bin/sh\nuntil [ -e {refused_now} ]; do sleep 0.1; done\n")
    script.chmod(0o700)
    slow = {"guests": ["lab-1"], "update": str(script), "budget": "240s"}
    playing = controller.start("one", "--limit", "h1,localhost", options=slow)
    try:
        hosts["h1"].until("paused", after=before["h1"])
        refused = other.play("two", "--limit", "h3,localhost", options=quick())
    finally:
        refused_now.touch()
        first = finish(playing)

    assert first.code == 0
    assert refused.code != 0
    assert "h3: not-now: " in refused.out
    assert "availability set lab" in refused.out
    assert [line.event for line in hosts["h3"].lines() if line.event == "paused"] == []


def test_a_window_that_is_closed_stops_the_rollout_at_that_host(controller, hosts, tmp_path):
    """The windows of sets are the hosts' own, and hold with a notice to guests."""
    whole = hosts["h1"].folder / "state" / "lab" / "harness.toml"
    closed = whole.with_name("closed.toml")
    shut = f"{(time.gmtime().tm_hour + 12) % 24:02}"
    window = f'hours = "{shut}:00-{shut}:30"'
    closed.write_text(whole.read_text().replace("spans_hosts = true", window))
    options = quick(duration="500ms")
    controller.inventory["hosts"]["h1"]["rolling_maintenance_options"] = {
        **options,
        "config": str(closed),
        "notify": "1s",
    }
    for name in ("h2", "h3"):
        controller.inventory["hosts"][name]["rolling_maintenance_options"] = options
    before = begun(hosts)

    stopped = controller.play("closed")

    assert stopped.code != 0
    assert "h1: not-now: " in stopped.out
    assert new_runs(hosts, before)["h3"] == 0
