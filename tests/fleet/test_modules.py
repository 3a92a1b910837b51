"""Modules on the real command, on libvirt's hypervisor in memory: nothing is paused.

What they do with guests is in `test_modules_and_guests.py`.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from harness.testing.runs import START, a_folder, a_run
from tests.fleet.tasks import Here

pytestmark = pytest.mark.timeout(600)
CHECK = {"check_mode": True}


@pytest.fixture
def here(engine, tmp_path) -> Here:
    return Here(engine, tmp_path, {"HARNESS_URI": "test:///default"})


def at(days: int) -> str:
    return f"{datetime.now(UTC) + timedelta(days=days):%Y-%m-%dT%H:%M+00:00}"


def test_a_maintenance_is_scheduled_once_and_cancelled_once(here):
    order = {"at": at(30), "guests": ["test"], "notify": "15m"}
    over = {"state": "absent", "at": order["at"]}

    told = here.play(
        {"schedule": order, **CHECK, "diff": True},
        {"schedule": order},
        {"schedule": order},
        {"schedule": order, **CHECK},
        {"schedule": {**order, "at": at(31)}},
        {"schedule": over, **CHECK},
        {"schedule": over},
        {"schedule": over},
        {"schedule": {"state": "absent", "event": "#2"}},
        {"schedule": {"state": "absent", "event": "#2"}},
    )

    foreseen, first, again, foreseen_again, another = told.results[:5]
    assert (foreseen["changed"], foreseen["number"]) == (True, None)
    assert foreseen["domains"][0]["guests"] == ["test"]
    assert ": pause test" in told.played.out
    assert (first["changed"], first["number"]) == (True, 1)
    assert "no server is running" in first["warnings"][0]
    assert (again["changed"], again["number"]) == (False, 1)
    assert (foreseen_again["changed"], foreseen_again["number"]) == (False, 1)
    assert (another["changed"], another["number"]) == (True, 2)
    cancelled = [one["cancelled"] for one in told.results[5:]]
    assert cancelled == [["#1"], ["#1"], [], ["#2"], []]
    assert [one["changed"] for one in told.results[5:]] == [bool(one) for one in cancelled]


def test_what_is_not_understood_is_refused_in_one_line(here):
    tasks = {
        "--at: invalid time 'tomorrow': expected e.g. ": {"at": "tomorrow", "guests": ["test"]},
        "--at: 2020-01-01 00:00:00 UTC is over; it is ": {"at": "2020-01-01T00:00"},
        "state is present but all of the following are missing: at": {"guests": ["test"]},
        "any of the following are missing: at, event": {"state": "absent"},
        "at: invalid time 'noon', expected e.g. 2026-": {"state": "absent", "at": "noon"},
        "absent: no such guest on test:///default": {"at": at(30), "guests": ["absent"]},
    }
    nowhere = {"executable": "/usr/bin/no-harness"}

    told = here.play(
        *({"schedule": given} for given in tasks.values()),
        {"recovery": nowhere},
        {"run_info": {"run": "2025"}},
    )

    for message, refused in zip([*tasks, nowhere["executable"], "2025"], told.results, strict=True):
        assert refused["failed"], message
        assert message in refused["msg"]
        assert "\n" not in refused["msg"].strip()
        assert "Traceback" not in str(refused)
    assert not (here.folder / "state" / "events.db").exists()


def test_what_was_done_what_would_be_and_what_is_left(here):
    for number in (1, 2):
        started_at = START + timedelta(number)
        a_folder(
            here.folder / "state", a_run(run_id=f"{started_at:%Y%m%d}-a", started_at=started_at)
        )

    told = here.play(
        {"run_info": {}},
        {"run_info": {"run": "20260102"}},
        {"plan_info": {"guests": ["test"]}},
        {"plan_info": {"guests": ["absent"]}},
        {"recovery": {}, **CHECK},
        {"recovery": {}},
        {"doctor_info": {"guests": ["test"]}},
    )

    newest, first, planned, refused, foreseen, recovered, looked = told.results
    assert newest["record"]["run_id"] == "20260103-a"
    assert first["record"]["run_id"] == "20260102-a"
    assert first["record"]["guests"][0]["name"] == "web1"
    assert planned["domains"][0]["guests"] == ["test"]
    assert planned["document"]["budget_s"] == 30
    assert "absent" in refused["refused"]
    for one in (foreseen, recovered):
        assert (one["changed"], one["runs"], one["paused"]) == (False, [], [])
    assert {"libvirt"} <= {finding["name"] for finding in looked["findings"]}
    assert not any(one["changed"] or one.get("failed") for one in told.results)
