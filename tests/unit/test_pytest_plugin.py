"""The plugin, as a user's tests see it."""

from __future__ import annotations

import pytest

from harness.core.records import Outcome
from harness.testing.runs import a_run

pytest_plugins = ["pytester"]

CONFTEST = """
import pytest
from harness import api
from harness.results import publish
from harness.core.errors import ConnectionLost, GuestNotFound, GuestStranded, MissingCapability
from harness.core.records import Outcome
from types import SimpleNamespace
from harness.testing.runs import a_folder, a_guest, a_run

@pytest.fixture(autouse=True)
def faked(tmp_path, monkeypatch):
    def maintain(config, guests, *, state_dir, config_file, label):
        if guests == ("away",):
            raise ConnectionLost("no connection", operation="opening")
        if guests == ("web1x",):
            raise GuestNotFound("no such guest", operation="finding")
        if guests == ("lacking",):
            raise MissingCapability("accelerator", "no such accelerator")
        record = a_run(*(a_guest(name) for name in guests))
        record = record.model_copy(update={"budget_s": config.budget_s})
        error = GuestStranded(["stuck"]) if guests == ("stuck",) else None
        maintain.config = config
        return SimpleNamespace(record=record, folder=a_folder(tmp_path, record), error=error)
    monkeypatch.setattr(api, "maintain", maintain)
    monkeypatch.setattr(publish, "finish", lambda folder: ["a warning"])
    return maintain
"""


@pytest.fixture
def users(pytester, monkeypatch):
    """A folder of a user's tests."""
    monkeypatch.syspath_prepend(pytest.importorskip("tests").__path__[0] + "/..")
    monkeypatch.delenv("HARNESS_REQUIRE", raising=False)
    pytester.makeconftest(CONFTEST)
    pytester.makefile(".toml", harness="budget_s = 12.0\n")
    return pytester


def test_a_maintenance_is_carried_out_and_asserted_on(users):
    """The example of the documentation."""
    users.makepyfile("""
        def test_db_survives(maintenance, faked):
            result = maintenance("db1", update="./patch.sh --now")
            assert result.passed
            assert result.guest("db1").downtime_s < 10
            assert abs(result.guest("db1").offset_s) < 0.01
            assert result.guest("db1").checks["clock"].outcome == "pass"
            assert faked.config.update.command == ("./patch.sh", "--now")
            assert result.record.budget_s == 12.0

        def test_settings(maintenance, faked):
            maintenance("a", budget_s=9, settings={"clock.correct": False})
            assert (faked.config.budget_s, faked.config.clock.correct) == (9.0, False)
    """)
    users.runpytest("--harness-config=harness.toml").assert_outcomes(passed=2)


def test_the_run_is_attached_to_the_report(users):
    """To JUnit as properties, to a failure as a section."""
    users.makepyfile("def test_x(maintenance):\n    assert not maintenance('db1').passed")
    done = users.runpytest("--junit-xml=out.xml", "--harness-config=harness.toml")
    done.assert_outcomes(failed=1)
    done.stdout.fnmatch_lines(["*harness*", "*1 guest in 1 update domain*", "*a warning*"])
    text = (users.path / "out.xml").read_text()
    assert 'name="harness_run_id" value="20260101T020000Z-aaaaaa"' in text
    assert 'name="harness_residual_s" value="0.0002"' in text


def test_what_is_missing_skips_with_its_name_unless_it_is_required(users, monkeypatch):
    """A machine without a hypervisor is no failure of the guest."""
    users.makepyfile("""
        import pytest
        @pytest.mark.parametrize("guest", ["away", "lacking"])
        def test_x(maintenance, guest):
            maintenance(guest)
    """)
    done = users.runpytest("-rs", "--harness-config=harness.toml")
    done.assert_outcomes(skipped=2)
    done.stdout.fnmatch_lines(["*harness: no hypervisor: *", "*harness: no accelerator: *"])
    monkeypatch.setenv("HARNESS_REQUIRE", "hypervisor")
    users.runpytest("--harness-config=harness.toml").assert_outcomes(skipped=1, failed=1)


def test_a_stranded_guest_a_bad_setting_and_a_guest_that_is_not_there_fail_the_test(users):
    """None of them can be overlooked: a misspelt guest that is skipped would be a green nothing."""
    users.makepyfile("""
        def test_not_there(maintenance):
            maintenance("web1x")
        def test_stuck(maintenance):
            maintenance("stuck")
        def test_misspelt(maintenance):
            maintenance("a", settings={"clock.corect": True})
    """)
    done = users.runpytest("--harness-config=harness.toml")
    done.assert_outcomes(failed=3)
    done.stdout.fnmatch_lines(["*STILL PAUSED: stuck*", "*clock.corect*did you mean 'correct'*"])


def test_what_an_assertion_shows_of_a_maintenance_is_what_went_wrong(tmp_path):
    """Not the record's 200 fields."""
    from harness.pytest_plugin import MaintenanceResult

    good = a_run()
    assert repr(MaintenanceResult(good, tmp_path, None)) == f"<PASS; run {good.run_id}>"
    guest = good.guests[0]
    broken = guest.checks[0].model_copy(update={"outcome": Outcome.FAIL, "detail": "5 s too long"})
    bad = good.model_copy(
        update={
            "outcome": Outcome.FAIL,
            "guests": (guest.model_copy(update={"checks": (broken,)}),),
        }
    )
    shown = repr(MaintenanceResult(bad, tmp_path, None))
    assert shown == f"<FAIL: {guest.name}: {broken.name}: 5 s too long; run {good.run_id}>"
