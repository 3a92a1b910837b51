"""``harness events`` for people, and rehearsals for client authors, over a real server."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from harness.cli.main import run_command_line
from harness.core.errors import Interrupted
from harness.core.timebase import Deadline, NotYet, wait_for
from harness.events.document import State
from harness.events.scenarios import Rehearsal
from harness.events.store import Store
from tests.contract.test_events_http import Server, approval, publish


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    started = Server(tmp_path_factory.mktemp("events"), "--rate", "0").start()
    yield started
    started.kill(signal.SIGTERM)


@pytest.fixture
def store(server):
    with Store(server.folder) as opened:
        yield opened


def command(server, *arguments):
    return [sys.executable, "-m", "harness", "events", *arguments]


def environment(server):
    return {**os.environ, "HARNESS_STATE_DIR": str(server.folder)}


@pytest.fixture
def run(server, monkeypatch, capsys):
    """The command line in this process: code, out and err."""
    monkeypatch.setenv("HARNESS_STATE_DIR", str(server.folder))
    monkeypatch.chdir(server.folder)

    def call(*arguments):
        code = run_command_line(["events", *arguments])
        said = capsys.readouterr()
        return SimpleNamespace(returncode=code, stdout=said.out, stderr=said.err)

    return call


class Stop:
    """An interruption by the test."""

    def __init__(self):
        self.asked = threading.Event()

    def check(self):
        if self.asked.is_set():
            raise Interrupted("SIGINT", "no guest was paused")

    def pause(self, seconds):
        self.asked.wait(seconds)


@pytest.fixture
def rehearse(server):
    """Play a scenario beside the test, which may stop it; ``said`` is what a person is told."""
    started = []

    def play(scenario, guest, time_scale=1.0, fault=None, impact_s=1.0):
        said: list[str] = []
        stop: Any = Stop()

        def work():
            with Store(server.folder) as store, suppress(Interrupted):
                rehearsal = Rehearsal(
                    store, stop, said.append, time_scale=time_scale, impact_s=impact_s
                )
                rehearsal.play(scenario, guest, fault)

        thread = threading.Thread(target=work)
        thread.start()
        started.append((thread, stop))

        def end(at_once=True):
            if at_once:
                stop.asked.set()
            thread.join(30)
            return said

        return end

    yield play
    for thread, stop in started:
        stop.asked.set()
        thread.join(30)


def until(look, what):
    def probe():
        if not (found := look()):
            raise NotYet(what)
        return found

    return wait_for(probe, what=what, deadline=Deadline.after(30), interval_s=0.02)


def story(server, guest, wanted):
    """The states that a guest sees, one after the other, until as many as wanted are seen."""
    seen: list[Any] = []

    def look():
        answer = server.ask(guest)
        now = [(e["EventStatus"], e["EventType"], e["Resources"]) for e in answer.data["Events"]]
        if not seen and not now:
            return False
        if not seen or seen[-1] != now:
            seen.append(now)
        return len(seen) >= wanted

    until(look, f"{wanted} states; seen {seen}")
    return seen


def test_list_show_approve_and_cancel(server, store, run):
    """By the beginning of the id; for people and for programs."""
    event, other = publish(store, "g10"), publish(store, "g11")
    listed = json.loads(run("list", "--json").stdout)
    assert {one["event_id"] for one in listed["events"]} == {event, other}
    assert event in run("list").stdout
    assert run("approve", event[:13].lower()).returncode == 0
    server.ask("g10")
    until(lambda: store.seen("guest:fixed-g10", 0), "sighting")
    shown = json.loads(run("show", event, "--json").stdout)
    assert shown["approved_by"].endswith("at the command line")
    assert shown["seen"][0]["name"] == "g10"
    in_words = run("show", event).stdout
    assert re.search(r"^resources +g10$", in_words, re.MULTILINE)
    assert re.search(r"^announced +\d{4}-\d\d-\d\dT\S+ \(.* ago\)$", in_words, re.MULTILINE)
    assert "GMT" not in in_words
    approved = json.loads(run("approve", other, "--json").stdout)
    assert (approved["event_id"], approved["approved_by"]) == (other, shown["approved_by"])
    for gone in (event, other):
        assert run("cancel", gone).returncode == 0
    again = run("cancel", event)
    assert (again.returncode, "cannot be cancelled" in again.stderr) == (2, True)
    assert json.loads(run("list", "--json").stdout)["events"] == []
    assert run("show", "").returncode == run("show", "zz").returncode == 2


def test_watch_shows_what_changes(server, store):
    """One line a change."""
    with subprocess.Popen(
        command(server, "watch", "--json"), stdout=subprocess.PIPE, text=True,
        env=environment(server), stderr=subprocess.DEVNULL,
    ) as watch:  # fmt: skip
        event = publish(store, "g12")
        assert json.loads(watch.stdout.readline())["event_id"] == event
        store.cancel([event])
        assert json.loads(watch.stdout.readline())["state"] == "cancelled"
        watch.send_signal(signal.SIGINT)
        assert watch.wait(30) == 130


def test_a_live_migration_is_rehearsed_and_may_be_approved(server, rehearse, store):
    """Nobody is paused; the client under test sees all that it would see."""
    end = rehearse("live-migration", "web1", 5)
    (seen,) = story(server, "web2", 1)
    assert seen == [("Scheduled", "Freeze", ["web1"])]
    event_id = server.ask("web2").data["Events"][0]["EventId"]
    assert server.ask("web2", method="POST", body=approval(event_id)).status == 200
    said = [line.split()[0] for line in end(at_once=False)]
    assert said == ["scheduled", "approved", "started", "removed"]
    assert server.ask("web2").data["Events"] == []
    assert store.find(event_id).approved_by == "web2"


def test_a_host_maintenance_goes_through_the_sets_update_domains(server, rehearse):
    """One at a time, with an empty document between them."""
    rehearse("host-maintenance", "web2", 900)
    seen = story(server, "web1", 5)
    hit = [states[0][2] for states in seen if states]
    assert hit == sorted(hit)
    assert hit[0] == ["web1"]
    assert hit[-1] == ["web2"]
    assert all(len(states) <= 1 for states in seen)


@pytest.mark.parametrize(
    ("scenario", "scale", "states"),
    [("cancelled", 450, ["Scheduled", None]), ("hardware-failure", 300, ["Started", None])],
)
def test_what_never_starts_and_what_starts_at_once(server, rehearse, scenario, scale, states):
    """Scheduled and gone; or Started from the beginning."""
    rehearse(scenario, "g20", scale)
    seen = story(server, "g20", 2)
    assert [now[0][0] if now else None for now in seen] == states


@pytest.mark.parametrize(
    ("fault", "guest", "status", "body"),
    [
        ("empty", "g21", 200, b""),
        ("text", "g22", 200, b"Service is starting."),
        ("410", "g23", 410, b""),
        ("429", "g24", 429, b""),
        ("500", "g25", 500, b""),
    ],
)
def test_faults_that_real_deployments_show(server, rehearse, fault, guest, status, body):
    """For the guest that rehearses and no other; over when the rehearsal is."""
    end = rehearse("live-migration", guest, fault=fault)
    until(lambda: server.ask(guest).status != 200 or server.ask(guest).body[:1] != b"{", "fault")
    answer = server.ask(guest)
    assert (answer.status, answer.body) == (status, body)
    assert server.ask("g26").status == 200
    end()
    assert server.ask(guest).data["Events"] == []


def test_what_cannot_be_rehearsed_is_refused(run):
    """Exit 2 and what there is instead."""
    for wrong in (("nonsense", "--guest", "g10"), ("cancelled", "--guest", "nobody"),
                  ("cancelled", "--guest", "g10", "--fault", "418"),
                  ("cancelled", "--guest", "g10", "--time-scale", "0")):  # fmt: skip
        done = run("rehearse", *wrong)
        assert done.returncode == 2, done
        assert "Traceback" not in done.stderr


def test_an_approval_is_visible_as_started_at_once(server, rehearse, store):
    """Generously: within a second on a busy machine; the benchmark has the figure."""
    rehearse("live-migration", "g27", 2)
    until(lambda: server.ask("g27").data["Events"], "the event")
    event_id = server.ask("g27").data["Events"][0]["EventId"]
    server.ask("g27", method="POST", body=approval(event_id))
    until(lambda: store.find(event_id).state is State.STARTED, "the start")
    found = store.find(event_id)
    assert 0 <= found.started_ns - found.approved_ns < 1_000_000_000


def test_a_rehearsal_starts_a_server_where_there_is_none(tmp_path):
    """And takes it along."""
    done = subprocess.run(
        [sys.executable, "-m", "harness", "events", "rehearse", "short-notice", "--guest", "me",
         "--time-scale", "20", "--impact", "1s", "--address", "127.0.0.1", "--port", "0",
         "--identify", "127.0.0.1=me"],
        capture_output=True, text=True, timeout=60,
        env={**os.environ, "HARNESS_STATE_DIR": str(tmp_path)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert [line.split()[0] for line in done.stdout.splitlines()] == [
        "scheduled",
        "started",
        "removed",
    ]
    assert re.search(r"answering guests on 127\.0\.0\.1:\d+", done.stderr)


LATER = ("schedule", "test", "--in", "1h", "--uri", "test:///default", "--duration", "1")


def test_a_maintenance_for_later_says_where_there_is_no_server(run, tmp_path, monkeypatch):
    """It is written down all the same; with a server nothing is said."""
    there = run(*LATER)
    assert (there.returncode, "no server" in there.stderr) == (0, False), there
    monkeypatch.setenv("HARNESS_STATE_DIR", str(tmp_path))
    alone = run(*LATER)
    assert alone.returncode == 0
    assert f"no server is running for {tmp_path}" in alone.stderr
    assert "harness events serve" in alone.stderr
    assert len(json.loads(run("list", "--json").stdout)["scheduled"]) == 1


def test_the_same_maintenance_is_scheduled_once(run, tmp_path, monkeypatch):
    """With --once; another time, notice or budget is another, and so is one that was cancelled."""
    monkeypatch.setenv("HARNESS_STATE_DIR", str(tmp_path))
    at = f"{datetime.now(UTC) + timedelta(days=30):%Y-%m-%dT%H:%M}"
    same = ("schedule", "test", "--at", at, "--uri", "test:///default")

    def number(*more):
        """Its number, and whether it waited already; None where nothing is scheduled."""
        said = json.loads(run(*same, "--json", *more).stdout)
        return said["scheduled"], said.get("already")

    assert number("--once", "--dry-run") == (None, None)
    assert number("--once") == (1, False)
    assert number("--once") == (1, True)
    assert number("--once", "--dry-run") == (1, None)
    assert "#1: waits already, not before" in run(*same, "--once").stdout
    assert number("--once", "--notify", "1m") == (2, False)
    assert number("--once", "--budget", "9s") == (3, False)
    assert number() == (4, False)
    assert run("cancel", "1").returncode == 0
    assert run("cancel", "4").returncode == 0
    assert number("--once") == (5, False)


def test_a_maintenance_for_later_is_refused_without_a_time(run):
    """Before libvirt is asked anything."""
    for wrong in ((), ("--in", "1h", "--at", "2030-01-01"), ("--at", "yesterday"),
                  ("--at", "2020-01-01T00:00"), ("--in", "soon")):  # fmt: skip
        assert run("schedule", *wrong).returncode == 2
    said = run("schedule", "--at", "tomorrow 02:00").stderr
    assert (
        "--at: invalid time 'tomorrow 02:00': expected e.g. 2026-12-31T02:00, which is UTC" in said
    )


def test_a_collector_reads_metrics_that_guests_do_not(tmp_path):
    """A listener of its own beside that of the guests: a real server."""
    where = ["--address", "127.0.0.1", "--port", "0", "--anywhere", "--metrics", "127.0.0.1:0"]
    done = subprocess.Popen(
        [sys.executable, "-m", "harness", "events", "serve", *where,
         "--identify", "127.0.0.1=web1"],
        stderr=subprocess.PIPE, text=True, cwd=tmp_path,
        env={**os.environ, "HARNESS_STATE_DIR": str(tmp_path)},
    )  # fmt: skip
    try:
        ports = {}
        for line in done.stderr:
            if found := re.search(r"(metrics|answering guests) on .*?127\.0\.0\.1:(\d+)", line):
                ports[found[1]] = found[2]
            if len(ports) == 2:
                break
        with urllib.request.urlopen(f"http://127.0.0.1:{ports['metrics']}/metrics") as answer:
            assert "harness_runs{" in answer.read().decode()
        guests = f"http://127.0.0.1:{ports['answering guests']}/metrics"
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(guests)
        refused.value.close()
    finally:
        done.terminate()
        done.wait(20)
        done.stderr.close()
