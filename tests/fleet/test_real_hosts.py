"""A rollout over real SSH, on three hosts with two guests each: what is done to it on the way.

All guests are of one set, so the lease keeps any two hosts apart, and each wave is one host. Every
test is a rollout of its own; however it ends, no guest stays paused.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from harness.core.timebase import Deadline, NotYet, utc_now, wait_for
from harness.fleet.database import FleetDatabase
from harness.fleet.leases import held, release_all
from harness.testing.required import required
from tests.fleet.hosts import NAMES, RUN_S, Host, ssh_options, three_hosts
from tests.fleet.playbooks import HARNESS, VARIABLES, Controller, end, finish
from tests.postgresql import PostgreSQL, postgresql_server

pytestmark = [pytest.mark.timeout(600), pytest.mark.guest]


@pytest.fixture(scope="module")
def postgresql() -> Iterator[PostgreSQL]:
    """The database of the fleet: its leases, its Scheduled Events, and how far rollouts are."""
    with postgresql_server() as server:
        yield server


@pytest.fixture(scope="module")
def hosts(tmp_path_factory, postgresql):
    """Boot them once; skips where there can be none."""
    if os.environ.get("HARNESS_NAMESPACE") != "inside":
        why = "not inside scripts/in-namespace"
        if required("guest"):
            pytest.fail(why)
        pytest.skip(why)
    with three_hosts(tmp_path_factory.mktemp("fleet"), postgresql.url) as found:
        yield found


@pytest.fixture
def controller(newest, hosts, tmp_path) -> Controller:
    """A controller whose canary is h2, and whose inventory says how each host is reached."""
    return controller_of(newest, hosts, tmp_path)


def controller_of(engine, hosts: dict[str, Host], folder: Path) -> Controller:
    inventory = {
        "hosts": {name: {"ansible_host": host.address} for name, host in hosts.items()},
        "vars": {
            **VARIABLES,
            "ansible_user": "root",
            "ansible_ssh_common_args": " ".join(ssh_options(hosts["h1"].folder.parent)),
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


def paused(host: Host, run: int) -> int:
    """Return how often guests were paused in one of its runs, which may not be there."""
    return [line.event for line in host.lines(run)].count("paused") if len(host.runs) > run else 0


def record(host: Host) -> dict[str, Any]:
    """Return run.json of its last run."""
    return json.loads((host.runs[-1] / "run.json").read_text())


def executable(file: Path, text: str) -> Path:
    file.write_text(f"#!/bin/sh\n{text}\n")
    file.chmod(0o700)
    return file


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
    script = executable(tmp_path / "update", '[ "$(hostname)" != h1 ]')
    before = begun(hosts)

    stopped = controller.play("fails", options={"guests": ["lab-1"], "update": str(script)})

    assert stopped.code != 0
    assert new_runs(hosts, before) == {"h1": 1, "h2": 1, "h3": 0}
    assert "rollout fails stops, no further wave begins; h1: " in stopped.out


def test_a_controller_that_is_killed_in_the_pause_and_the_playbook_again(controller, hosts):
    before = begun(hosts)
    playing = controller.start("killed", options=quick(duration="8s"))
    hosts["h2"].until("paused", after=before["h2"], of=playing)
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
    lost.until("paused", after=before["h2"], of=playing)
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
    script = executable(tmp_path / "update", f"until [ -e {refused_now} ]; do sleep 0.1; done")
    slow = {"guests": ["lab-1"], "update": str(script), "budget": "240s"}
    playing = controller.start("one", "--limit", "h1,localhost", options=slow)
    try:
        hosts["h1"].until("paused", after=before["h1"], of=playing)
        refused = other.play("two", "--limit", "h3,localhost", options=quick())
    finally:
        refused_now.touch()
        first = finish(playing)

    assert first.code == 0
    assert refused.code != 0
    assert "h3: not-now: " in refused.out
    assert "availability set lab" in refused.out
    assert [line.event for line in hosts["h3"].lines() if line.event == "paused"] == []


def shut() -> str:
    """Hours that are half a day away."""
    opens = utc_now() + timedelta(hours=12)
    return f'hours = "{opens:%H}:00-{opens:%H}:30"'


def test_a_window_that_closes_while_the_canary_is_done_stops_the_rollout_at_the_next_host(
    controller, hosts, tmp_path
):
    """The windows of sets are the hosts' own; no guest is notified of anything."""
    opened = hosts["h1"].configured("")
    closed = tmp_path / "closed.toml"
    closed.write_text(opened.read_text().replace("spans_hosts = true", shut()))
    script = executable(tmp_path / "update", f"cp {closed} {opened}")
    controller.inventory["hosts"]["h1"]["rolling_maintenance_options"] = {
        **quick(),
        "config": str(opened),
    }
    for name in ("h2", "h3"):
        options = {"guests": ["lab-1"], "update": str(script), "budget": "240s"}
        controller.inventory["hosts"][name]["rolling_maintenance_options"] = options
    before = begun(hosts)

    stopped = controller.play("closes")

    assert stopped.code != 0
    assert "h1: not-now: availability set lab may not be paused at" in stopped.out
    assert paused(hosts["h1"], before["h1"]) == 0
    assert paused(hosts["h2"], before["h2"]) == 1
    assert new_runs(hosts, before)["h3"] == 0


def test_a_closed_window_is_5_and_what_needs_no_maintenance_is_6(hosts):
    """As whole commands, over SSH."""
    host = hosts["h1"]
    closed = host.configured("", ("spans_hosts = true", shut()))
    later = host.run("run", "lab-1", "--rollout=shut", f"--config={closed}", "--json")
    assert later.returncode == 5, later.stderr
    assert json.loads(later.stdout)["outcome"] == "not-now"

    loaded = host.configured('\n[update]\nkind = "kernel-module"\nmodule = "kernel"\n')
    needless = host.run("run", "lab-1", "--rollout=needless", f"--config={loaded}", "--json")
    assert needless.returncode == 6, needless.stdout + needless.stderr
    answer = json.loads(needless.stdout)
    assert (answer["outcome"], answer["record"]) == ("not-needed", None)


def test_postgresql_that_is_stopped_in_the_pause_strands_no_guest_and_begins_no_other_domain(
    controller, hosts, postgresql, tmp_path
):
    """lab-1 and lab-2 are of two update domains."""
    before, host, go = begun(hosts), hosts["h2"], tmp_path / "go"
    script = executable(tmp_path / "update", f"until [ -e {go} ]; do sleep 0.1; done")
    both = {"guests": ["lab-1", "lab-2"], "scope": "guest", "budget": "240s"}
    playing = controller.start("stopped", options={**both, "update": str(script)})
    try:
        host.until("paused", after=before["h2"], of=playing)
        postgresql.stop()
        try:
            go.touch()
            stopped = finish(playing)
        finally:
            postgresql.start()
    finally:
        go.touch()
        end(playing)
        for run in host.runs[before["h2"] :]:  # or the other tests wait until it ends by itself
            release_all(FleetDatabase(postgresql.url), run.name)

    assert stopped.code != 0
    assert "h2: error: " in stopped.out
    assert "the fleet's database postgresql://harness@" in stopped.out
    assert new_runs(hosts, before) == {"h1": 0, "h2": 1, "h3": 0}
    (guest,) = record(host)["guests"]  # the other was not touched
    assert guest["name"] == "lab-1"
    assert guest["pause_window_s"] is not None
    assert paused(host, before["h2"]) == 1
    (let_expire,) = [one.data for one in host.lines() if one.event == "lease released"]
    assert let_expire["left_because"]
    left = json.loads(host.run("recover", "--json").stdout)
    assert (left["runs"], left["paused"]) == ([], [])


def test_a_host_that_dies_in_its_wave_is_named_and_recover_finishes_it(
    controller, hosts, postgresql
):
    """Its guest stays paused until then, and its lease keeps the other hosts off."""
    before, host = begun(hosts), hosts["h2"]
    options = quick(duration="240s", budget="300s")
    playing = controller.start("dies", options=options)
    try:
        host.until("paused", after=before["h2"], of=playing)
        host.die()
        stopped = finish(playing)
        assert stopped.code != 0
        assert "rollout dies stops, no further wave begins; h2: " in stopped.out
        run_id = host.runs[-1].name
        planned = json.loads(hosts["h1"].run("plan", "lab-1", "--json").stdout)
        assert any("set lab" in one and run_id in one for one in planned["warnings"]), planned

        named = controller.play("dies", options=options)
        assert named.code != 0
        assert "no host was touched; h2: " in named.out
        assert new_runs(hosts, before) == {"h1": 0, "h2": 1, "h3": 0}

        for name in ("h1", "h3"):
            controller.inventory["hosts"][name]["rolling_maintenance_options"] = quick()
        host_options = controller.inventory["hosts"]["h2"]
        host_options["rolling_maintenance_options"] = options
        back = controller.play("dies", recover=True, abort_after=1)
    finally:
        end(playing)
        host.run("recover")

    assert new_runs(hosts, before) == dict.fromkeys(NAMES, 1), back.out
    assert "2 of 3 hosts ended well; h2: " in back.out
    assert [one["name"] for one in record(host)["guests"]] == ["lab-1"]
    assert held(FleetDatabase(postgresql.url)) == []


def test_the_lease_of_a_run_that_was_killed_ends_by_itself_and_another_host_has_its_turn(
    hosts, postgresql, tmp_path
):
    """Its guardian resumes the guest; nothing is done on that host until the other is done."""
    host, other, database = hosts["h1"], hosts["h3"], FleetDatabase(postgresql.url)
    before, go = begun(hosts), tmp_path / "go"
    script = executable(tmp_path / "update", f"until [ -e {go} ]; do sleep 0.1; done")
    short = host.configured("", ("uri = ", "resume_patience_s = 1\nmend_timeout_s = 5\nuri = "))
    words = ("lab-1", f"--config={short}", f"--update={script}", "--expected=1s", "--budget=10s")
    waiting = host.start("run", *words, "--rollout=left", "--detach")

    def resumed() -> None:
        if "resumed" not in [line.event for line in host.lines()]:
            raise NotYet("the guest is paused")

    def ended() -> str:
        said = json.loads(other.run("plan", "lab-1", "--json").stdout)["warnings"]
        for warning in said:
            if "ended by itself" in warning:
                return warning
        raise NotYet(str(said))

    try:
        host.until("paused", after=before["h1"], of=waiting)
        host.die(guardian=False)
        (lease,) = held(database)
        assert (lease.host, lease.run_id) == ("h1", host.runs[-1].name)
        deadline = Deadline.after(RUN_S)
        wait_for(resumed, what="the guardian", deadline=deadline, interval_s=0.1)
        warning = wait_for(ended, what="the end of the lease", deadline=deadline, interval_s=0.5)
        assert f"on h1, run {lease.run_id}, did not release it" in warning
        told = json.loads(other.run("fleet", "status", "left", "--json").stdout)["leases"]
        assert [(one["run_id"], one["expired"]) for one in told] == [(lease.run_id, True)]

        turn = other.run("run", "lab-1", "--duration=500ms", "--rollout=turn", "--json")
        assert turn.returncode == 0, turn.stdout + turn.stderr
    finally:
        go.touch()
        waiting.terminate()
        waiting.communicate()
        host.run("recover")


URL = "http://169.254.169.254/metadata/scheduledevents?api-version=2020-07-01"


def test_a_guest_on_another_host_of_the_set_sees_the_event_and_approves_it(hosts, tmp_path):
    """The bystander's server answers its own guest; the pause begins long before its time."""
    host, bystander = hosts["h1"], hosts["h3"]
    serving = bystander.start("events", "serve")
    words = ("run", "lab-1", "--notify=2h", "--duration=500ms", "--rollout=told", "--json")
    telling = subprocess.Popen(
        [*host.ssh, shlex.join([HARNESS, *words])], stdout=subprocess.PIPE, text=True
    )

    def ask(*more: str) -> str:
        command = shlex.join(["wget", "-q", "-O", "-", "--header", "Metadata: true", *more, URL])
        done = bystander.run("lab", "ssh", "lab-2", command)
        if done.returncode != 0:
            raise NotYet(done.stderr)
        return done.stdout

    def event() -> dict[str, Any]:
        (found,) = json.loads(ask())["Events"] or [None]
        if found is None:
            raise NotYet("no event yet")
        return found

    try:
        seen = wait_for(event, what="the event", deadline=Deadline.after(RUN_S), interval_s=0.3)
        assert seen["Resources"] == ["lab-1"]
        ask("--post-data", json.dumps({"StartRequests": [{"EventId": seen["EventId"]}]}))
        out, _ = telling.communicate(timeout=RUN_S)
    finally:
        telling.kill()
        telling.communicate()
        serving.terminate()
        serving.communicate()

    assert telling.returncode == 0, out
    notice = json.loads(out)["record"]["update_domains"][0]["notice"]
    assert notice["event_ids"] == [seen["EventId"]]
    assert notice["approved_by"] == ["lab-2"]
    assert datetime.fromisoformat(notice["started_at"]) < datetime.fromisoformat(
        notice["not_before"]
    )
