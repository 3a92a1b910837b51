"""`harness status` and `harness report` while a run goes on, after it, and after one that died."""

from __future__ import annotations

import os
from contextlib import nullcontext

import pytest

from harness import api
from harness.cli.commands.status import lines_of
from harness.cli.main import run_command_line
from harness.cli.status import take_status
from harness.core.config import load
from harness.core.errors import HostBusy, WrongState
from harness.core.settings import Config, Scope
from harness.core.timebase import NS_PER_S, SYSTEM_CLOCK, Deadline, NotYet, wait_for
from harness.events.document import Event, EventType, State
from harness.events.order import Order
from harness.events.scheduler import schedule
from harness.events.shared import SharedStore
from harness.events.store import Store
from harness.host.lifecycle import GuestState
from harness.host.lock import host_lock
from harness.results.journal import FILE_NAME, Journal
from harness.updates.registry import FULL_CONFIG
from tests.maintenance.updates import Hooked


@pytest.fixture
def at(house, monkeypatch, tmp_path):
    """A host in memory whose state folder is that of the command line, and of nobody else."""
    at = house("web1", "web2", "web3")
    monkeypatch.setenv("HARNESS_STATE_DIR", str(at.state_dir))
    monkeypatch.setattr("harness.core.paths.known_state_dirs", lambda: ())
    return at


def taken(at, **flags):
    settings = {"uri": at.host.uri, **flags}
    config = load(None, environment={}, flags=settings, model=FULL_CONFIG).config
    backend = api.Backend(lambda config: nullcontext(at.host), at.connector)
    return take_status(config, at.state_dir, 5, backend)


def said(status) -> str:
    return "\n".join(lines_of(status))


def test_what_is_paused_is_told_since_when_and_until_when(at, capsys):
    """By name, with the run that holds it; afterwards it is one of the last runs."""
    seen = []

    def paused():
        """The journal is told of it while the update goes on."""
        status = taken(at)
        if {one.custody for one in status.going_on[0].held} != {"paused"}:
            raise NotYet(str(status.going_on[0].held))
        return status

    def look():
        seen.append(wait_for(paused, what="both are paused", deadline=Deadline.after(10)))
        run_command_line(["report"])

    taken(at)  # what it takes is loaded before guests are paused
    update = Hooked(look, scope=Scope.HOST)
    finished = at.maintain("web1", "web2", update=update, budget_s=30.0)
    (now,) = seen
    (run,) = now.going_on
    assert run.folder.run_id == finished.record.run_id
    assert [(one.name, one.custody) for one in run.held] == [("web1", "paused"), ("web2", "paused")]
    assert now.holder.run_id == finished.record.run_id
    assert (now.paused, now.past, now.needs_a_person) == ((), (), False)
    told = now.as_data()["running"][0]["held"][0]
    assert 0 <= told["paused_s"] < 30
    assert told["paused_s"] + told["left_s"] == pytest.approx(30.0, abs=0.1)  # its budget
    assert "web1: paused for " in said(now)
    assert "; to run again by " in said(now)
    reported = capsys.readouterr()
    assert f"run {finished.record.run_id} goes on" in reported.err
    assert "0 guests" not in reported.out  # a table of none, and a verdict, would say it is over
    assert finished.record.run_id in reported.out
    after = taken(at)
    assert (after.going_on, after.holder, after.needs_a_person) == ((), None, False)
    assert [past.run_id for past in after.past] == [finished.record.run_id]
    assert "no guest is paused" in said(after)
    run_command_line(["report"])
    assert "goes on" not in capsys.readouterr().err


def test_a_run_that_died_holds_guests_and_says_how_they_come_back(at, tmp_path):
    """Its journal is all there is of it."""
    finished = at.maintain("web1")
    journal = finished.folder.path / FILE_NAME
    lines = journal.read_text().splitlines(keepends=True)
    paused = next(number for number, line in enumerate(lines) if '"paused"' in line)
    journal.write_text("".join(lines[: paused + 1]))
    at.host.states["web1"] = GuestState.PAUSED
    now = taken(at)
    assert [one.name for one in now.dead[0].held] == ["web1"]
    assert (now.paused, now.needs_a_person) == ((), True)
    assert "ended unexpectedly; finish it with: harness recover" in said(now)
    journal.write_bytes(b"")
    assert taken(at).paused == ("web1",)


def test_a_run_that_has_written_nothing_yet_is_said_to_go_on_and_no_more(at):
    """No pid 0, and not for so long as since 1970."""
    folder = at.maintain("web1").folder
    (folder.path / FILE_NAME).write_bytes(b"")
    with Journal(folder.path, folder.run_id):
        assert "goes on: its journal is empty still" in said(taken(at))


def test_what_is_asked_of_a_guest_that_another_run_holds_is_answered_with_that_run(at):
    """Not with how to resume it by hand: a plan, its clock, its host key; nor by a second run."""
    config = Config(uri=at.host.uri)
    backend = api.Backend(lambda config: nullcontext(at.host), at.connector)
    heard: dict[str, object] = {}

    def ask():
        with pytest.raises(WrongState) as planned:
            api.plan(config, ["web1"], state_dir=at.state_dir, backend=backend)
        (clock,) = api.read_clocks(config, ["web1"], backend=backend)
        (keys,) = api.host_keys(config, ["web1"], backend=backend)
        heard.update(plan=planned.value, clock=clock.problem, keys=keys.error)
        with pytest.raises(HostBusy) as kept_out:
            at.maintain("web2")
        heard.update(run=kept_out.value)

    done = at.maintain("web1", update=Hooked(ask, scope=Scope.GUEST), budget_s=30.0)
    assert set(heard) == {"plan", "clock", "keys", "run"}
    for what, said_ in heard.items():
        assert f"a maintenance (hooked) of web1, run {done.record.run_id}" in str(said_), what
        assert f"kill -INT {os.getpid()}" in str(said_), what
        assert "virsh" not in str(said_), what


@pytest.mark.parametrize("shared", [False, True])
def test_what_is_to_come_is_told_with_who_approved_it(at, tmp_path, shared):
    """Of this host's guests, also where hosts share their events; a maintenance for later too."""
    url = f"sqlite:///{tmp_path}/shared.sqlite"
    stores = [SharedStore(url, name) if shared else None for name in ("h1", "h2")]
    (at.state_dir).mkdir()
    for host, folder in zip(stores, (at.state_dir, tmp_path), strict=True):
        with Store(folder, shared=host) as store:
            for guest in ("web1", "web2"):
                event = Event("", EventType.FREEZE, (guest,), State.PLANNED, 0)
                ids = [store.plan(f"guest:{folder}/{guest}", "0", event, owner="run x")]
                store.announce(ids, SYSTEM_CLOCK.realtime_ns() // NS_PER_S * NS_PER_S + NS_PER_S)
            store.approve(ids, "web2")
    with Store(at.state_dir) as own:
        schedule(own, SYSTEM_CLOCK.realtime_ns() + 3600 * NS_PER_S, 0.0, Order(("web3",)), "me")
    flags = {"events.store": url, "fleet.host": "h1"} if shared else {}
    now = taken(at, **flags)
    assert [(one.guests, one.approved_by) for one in now.coming] == [
        (("web1",), None),
        (("web2",), "web2"),
        (("web3",), None),
    ]
    assert " (scheduled) for web1: not before " in said(now)
    assert " (scheduled, approved by web2) for web2: not before " in said(now)
    assert "maintenance #1 (waiting) for web3: not before " in said(now)
    assert now.as_data()["scheduled"][1]["approved_by"] == "web2"
    assert not now.needs_a_person


def test_who_paused_a_guest_by_hand_or_reserved_the_host_is_told(at):
    """No run of ours; a person has to see to the one, and wait for the other."""
    at.host.states["web3"] = GuestState.PAUSED
    with host_lock(at.host.uri, "flashing the BMC"):
        now = taken(at)
    assert now.needs_a_person
    assert "paused, and held by no run: web3" in said(now)
    assert "flashing the BMC" in said(now)
    assert "no run yet" in said(now)


def test_a_start_that_libvirt_may_have_given_up_is_told_with_what_helps(at):
    """Not of a guest whose run lives: that sees to it."""
    at.host.states["web3"] = GuestState.PAUSED
    at.host.reasons["web3"] = "starting up"
    now = taken(at)
    assert "web3 is paused (starting up): libvirt is starting its QEMU; if that does" in said(now)
    assert "rm /run/libvirt/qemu/web3.xml" in now.as_data()["starting"]["web3"]
    seen = []
    at.host.states["web3"] = GuestState.RUNNING
    at.maintain("web3", update=Hooked(lambda: seen.append(taken(at)), scope=Scope.HOST))
    assert seen[0].going_on[0].held
    assert seen[0].starting == {}


def test_libvirt_that_does_not_answer_is_told_and_nothing_is_claimed(at):
    """Not `no guest is paused`, where nobody has looked."""
    at.host.away = True
    at.host.guests = lambda deadline: at.host._expect_libvirt("listing")
    now = taken(at)
    assert now.problems
    assert "no guest is paused" not in said(now)
    assert "not looked at: " in said(now)
