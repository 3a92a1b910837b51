"""What programs call, on a host in memory: the same five functions as the command line."""

from __future__ import annotations

import json
from contextlib import contextmanager, nullcontext

import pytest

from harness import api
from harness.core.errors import ConnectionLost, GuestNotFound, GuestStranded, HypervisorError
from harness.core.records import Outcome
from harness.maintenance.notice import Unannounced
from harness.testing.guard import FakeGuard


def backend(house) -> api.Backend:
    """How ``house`` is reached."""
    return api.Backend(
        connect=lambda config: nullcontext(house.host),
        connector=house.connector,
        guardian=lambda *_: FakeGuard(),
    )


def test_a_plan_names_domains_and_the_update_and_touches_nothing(house):
    """Nobody is logged in to, nobody is paused."""
    ours = house()
    planned = api.plan(ours.config(), ["web1"], state_dir=ours.state_dir, backend=backend(ours))
    assert [guest.name for guest in planned.plan.guests] == ["web1"]
    assert (planned.update.kind, planned.update.expected_s > 0.05) == ("stand-in", True)
    assert ours.host.calls == ours.connector.logins == []
    with pytest.raises(GuestNotFound):
        api.plan(ours.config(), ["stranger"], state_dir=ours.state_dir, backend=backend(ours))


def test_a_maintenance_tells_its_plan_first_and_returns_its_record(house):
    """The observer that was made for the plan sees every step, and is let go."""
    ours = house()
    seen: list[object] = []

    @contextmanager
    def observe(plan):
        seen.append([guest.name for guest in plan.guests])
        yield lambda step: seen.append(step.phase.value)
        seen.append("over")

    finished = api.maintain(
        ours.config(),
        ["web1", "web2"],
        state_dir=ours.state_dir,
        label="mine",
        observe=observe,
        backend=backend(ours),
    )
    assert finished.error is None
    assert (finished.record.outcome, finished.record.label) == (Outcome.PASS, "mine")
    assert (seen[0], seen[-1]) == (["web1", "web2"], "over")
    assert {"preparing", "paused", "checked"} <= {one for one in seen if isinstance(one, str)}
    assert finished.folder.path.parent.parent == ours.state_dir
    assert ours.running == ["web1", "web2"]
    assert api.recover(ours.state_dir, backend=backend(ours)).runs == ()


@contextmanager
def unclosable(value, error):
    """Works until it is closed."""
    yield value
    raise error


GONE = ConnectionLost("libvirtd is gone", operation="closing")


@pytest.mark.parametrize(
    ("what", "error", "stuck"),
    [
        ("hypervisor", GONE, True),
        ("hypervisor", KeyError("a bug"), True),
        ("hypervisor", SystemExit(1), True),
        ("hypervisor", KeyboardInterrupt(), True),
        ("hypervisor", KeyboardInterrupt(), False),
        ("observer", OSError(28, "No space left"), False),
        ("notice", GONE, False),
        ("guardian", OSError(28, "No space left"), False),
    ],
)
def test_what_cannot_be_closed_changes_nothing_about_the_run(
    house, monkeypatch, caplog, what, error, stuck
):
    """The record is written by then: its exit code is the run's, above all the 4."""
    ours = house()

    def at(place, value):
        return unclosable(value, error) if place == what else nullcontext(value)

    if stuck:
        refusal = HypervisorError("refused", operation="resuming", guest="web1")
        ours.host.before["resume", "web1"] = lambda: (_ for _ in ()).throw(refusal)
    told = "harness.events.announcement.announcement"
    monkeypatch.setattr(told, lambda *_, **__: at("notice", Unannounced()))
    finished = api.maintain(
        ours.config(resume_patience_s=0.2),
        ["web1", "web2"],
        state_dir=ours.state_dir,
        observe=lambda plan: at("observer", lambda step: None),
        backend=api.Backend(
            connect=lambda config: at("hypervisor", ours.host),
            connector=ours.connector,
            guardian=lambda *_: at("guardian", FakeGuard()),
        ),
    )
    kept = json.loads((finished.folder.path / "run.json").read_text())
    expected = (4, "error") if stuck else (0, "pass")
    assert (kept["exit_code"], kept["outcome"]) == expected
    assert (finished.record.exit_code, finished.record.outcome.value) == expected
    assert isinstance(finished.error, GuestStranded) is stuck
    assert type(error).__name__ in caplog.text


def test_what_fails_before_there_is_a_run_is_still_an_error(house):
    """Nothing was paused; that it could not be closed either is not said instead of it."""
    ours = house()
    backend = api.Backend(lambda config: nullcontext(ours.host), ours.connector)
    with pytest.raises(GuestNotFound):
        api.maintain(ours.config(), ["stranger"], state_dir=ours.state_dir, backend=backend)


def test_clocks_are_read_and_then_corrected(house):
    """Reading changes nothing; a guest that cannot be reached is an ERROR, not an exception."""
    ours = house()
    one, other = ours.guests
    one.offset_s = -5.0
    other.unreachable = True
    read = api.read_clocks(ours.config(), ["web1", "web2"], backend=backend(ours))
    assert [clock.outcome for clock in read] == [Outcome.FAIL, Outcome.ERROR]
    assert read[0].before is not None
    assert read[0].before.offset_s == pytest.approx(-5.0, abs=0.05)
    assert read[1].problem
    assert one.offset_s == pytest.approx(-5.0, abs=0.05)
    (done,) = api.correct_clocks(ours.config(), ["web1"], backend=backend(ours))
    assert (done.outcome, done.method is not None) == (Outcome.PASS, True)
    assert one.offset_s == pytest.approx(0.0, abs=0.01)


def test_what_a_dead_run_left_is_assessed_and_then_recovered(house):
    """A dry run only says; the real one resumes, and then there is nothing left to do."""
    ours = house()
    finished = ours.maintain("web1")
    journal = finished.folder.path / "journal.jsonl"
    lines = journal.read_text().splitlines(keepends=True)
    ends = ("resumed", "run finished")
    cut = next(n for n, line in enumerate(lines) if json.loads(line)["event"] in ends)
    journal.write_text("".join(lines[:cut]))
    ours.host._become("web1", ours.host.states["web1"].PAUSED, None)
    (said,) = api.recover(ours.state_dir, dry_run=True, backend=backend(ours)).runs
    assert [(one.member.name, one.action.value) for one in said.guests] == [("web1", "resumed")]
    assert ours.running == ["web2"]
    (done,) = api.recover(ours.state_dir, backend=backend(ours)).runs
    assert (done.error, done.stranded, ours.running) == (None, [], ["web1", "web2"])
    assert api.recover(ours.state_dir, backend=backend(ours)).runs == ()
