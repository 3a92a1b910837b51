"""What must still be true afterwards: PASS, FAIL, or an honest "could not tell"; never a guess."""

from __future__ import annotations

from dataclasses import replace

import pytest

from harness.checks import CHECKS, judge_all
from harness.checks.custom import Ended, OwnChecks
from harness.checks.evidence import Missing, Observed
from harness.checks.frozen import monotonic_deficit
from harness.checks.timers import Timers, Units
from harness.clock.arithmetic import describe, size
from harness.core.records import CheckRecord, Outcome
from harness.core.settings import CHECK_NAMES, ChecksSection
from harness.guest.kernel_log import KernelLog
from harness.host.protocol import ProcessIdentity
from harness.testing.evidence import (
    GOOD,
    NOTHING,
    SEEN,
    STALL,
    TESTIMONY,
    clock,
    told,
)

PASS, FAIL, ERROR, SKIP = Outcome.PASS, Outcome.FAIL, Outcome.ERROR, Outcome.SKIP


def verdict(name: str, **changes) -> CheckRecord:
    return CHECKS[name](replace(GOOD, **changes))


#: What is judged only where a QEMU, or the host's kernel, was to be replaced.
OF_ANOTHER = ("qemu-version", "ram-inode", "host-kernel", "host-boot", "host-clock")
ALWAYS = [name for name in CHECKS if name not in OF_ANOTHER]


def test_a_figure_is_said_once_beside_what_was_measured():
    """``measured vs allowed``, then the direction and the doubt, then why: in one unit each."""
    assert size(0.0000778) == "78 µs"
    assert size(-0.0012) == "1.2 ms"


def test_every_check_has_one_name_everywhere():
    """In the registry and in the configuration, in the order in which people read them."""
    assert tuple(CHECKS) == CHECK_NAMES
    assert ChecksSection().chosen == CHECK_NAMES


def test_a_good_run_passes_every_check_in_the_order_people_read():
    """One verdict for each promise, each under the name it is registered by."""
    records = judge_all(GOOD)
    assert [record.name for record in records] == ALWAYS
    assert [record.outcome for record in records] == [PASS] * len(ALWAYS)


def test_nothing_measured_is_never_a_pass():
    """Each check says that it could not tell, and why."""
    records = {record.name: record for record in judge_all(NOTHING)}
    outcomes = {name: record.outcome for name, record in records.items()}
    skipped = {"same-process": SKIP, "libvirt-events": SKIP, "kernel-log": SKIP}
    assert outcomes == {**dict.fromkeys(ALWAYS, ERROR), **skipped}
    assert all(record.detail for record in records.values())


@pytest.mark.parametrize(
    ("field", "names"),
    [
        ("paused_at_most_s", {"pause-window", "downtime", "lag", "frozen"}),
        ("paused_at_least_s", {"downtime", "lag", "frozen"}),
        ("clock_before", {"lag", "frozen"}),
        ("clock_after_resume", {"lag", "frozen"}),
        ("clock_at_end", {"clock"}),
        ("watch", {"watch"}),
        ("stall_lines", {"kernel-log"}),
    ],
)
def test_one_missing_measurement_fails_those_checks_that_need_it(field, names):
    """And no other: each promise is judged by its own evidence."""
    records = judge_all(replace(GOOD, **{field: None}))
    assert {record.name for record in records if record.outcome is ERROR} == names
    assert {record.outcome for record in records if record.name not in names} == {PASS}


def test_a_watch_that_nobody_asked_for_is_no_promise():
    """And the watch's own verdict counts where it was."""
    assert verdict("watch", watch=None, watch_asked=False).outcome is SKIP
    assert "watch" not in {r.name for r in judge_all(replace(GOOD, watch_asked=False))}
    undone = GOOD.watch.model_copy(update={"outcome": FAIL, "detail": "somebody moved it"})
    record = verdict("watch", watch=undone)
    assert (record.outcome, "somebody moved it" in record.detail) == (FAIL, True)


def test_a_clock_that_may_not_stay_right_is_not_called_right():
    """chronyd could not be told of the step; only a watch shows that it does not undo it."""
    doubt = {"correction_doubt": "chronyd could not be told"}
    record = verdict("clock", watch=None, watch_asked=False, **doubt)
    assert (record.outcome, "could not be told" in record.detail) == (ERROR, True)
    assert verdict("clock", **doubt).outcome is PASS


@pytest.mark.parametrize(
    ("offset_s", "outcome"), [(-2.0, PASS), (-2.004, PASS), (0.0, FAIL), (-2.02, FAIL)]
)
def test_a_clock_put_back_to_its_old_offset_is_judged_against_that(offset_s, outcome):
    """--restore-offset: right is what it was before the pause."""
    changes = {"clock_target_s": -2.0, "clock_target_uncertainty_s": 0.001}
    record = verdict("clock", clock_at_end=clock(offset_s), **changes)
    assert (record.outcome, "as it was before the pause" in record.detail) == (outcome, True)


@pytest.mark.parametrize(("doubt_s", "outcome"), [(0.001, PASS), (0.009, ERROR)])
def test_where_a_clock_was_before_is_known_no_better_than_it_was_read(doubt_s, outcome):
    """Both uncertainties count: the one of the reading now, and the one of the reading then."""
    changes = {"clock_target_s": -2.0, "clock_target_uncertainty_s": doubt_s}
    record = verdict("clock", clock_at_end=clock(-2.001, 0.001), **changes)
    assert record.outcome is outcome
    assert f"± {size(0.001 + doubt_s)}" in record.detail


@pytest.mark.parametrize(
    ("paused_s", "outcome"), [(0.0, PASS), (29.9, PASS), (30.0, PASS), (30.001, FAIL), (31.4, FAIL)]
)
def test_the_pause_window_is_judged_by_its_outer_bound(paused_s, outcome):
    """The longest it can have been; exactly the budget is still kept."""
    record = verdict("pause-window", paused_at_least_s=0.0, paused_at_most_s=paused_s)
    assert record.outcome is outcome
    assert (record.measured, record.allowed, record.unit) == (paused_s, 30.0, "s")


@pytest.mark.parametrize("side", [1, -1])
@pytest.mark.parametrize(
    ("offset_s", "uncertainty_s", "outcome"),
    [
        (0.000, 0.010, PASS),
        (0.009, 0.001, PASS),
        (0.009, 0.002, ERROR),
        (0.000, 0.011, ERROR),
        (0.011, 0.002, ERROR),
        (0.012, 0.001, FAIL),
        (5.000, 1.000, FAIL),
        (5.000, 6.000, ERROR),
    ],
)
def test_the_clock_is_judged_as_an_interval(side, offset_s, uncertainty_s, outcome):
    """PASS and FAIL only where the whole interval says so, slow or fast alike."""
    record = verdict("clock", clock_at_end=clock(side * offset_s, uncertainty_s))
    assert record.outcome is outcome
    assert (record.measured, record.allowed) == (side * offset_s, 0.010)
    assert f" ± {size(uncertainty_s)}" in record.detail
    assert record.detail.startswith(describe(side * offset_s))


def test_what_went_wrong_with_the_correction_is_told():
    """Beside the offset that is left, or in its place."""
    record = verdict("clock", clock_at_end=clock(-5.0), correction_problem="no right to step")
    assert (record.outcome, "; no right to step" in record.detail) == (FAIL, True)
    record = verdict("clock", clock_at_end=None, correction_problem="fell silent")
    assert (record.outcome, record.detail) == (ERROR, "fell silent")


def test_a_clock_that_is_not_a_number_is_no_pass():
    """NaN compares with nothing, so nothing can be told."""
    assert verdict("clock", clock_at_end=clock(float("nan"))).outcome is ERROR
    assert verdict("lag", clock_after_resume=clock(float("nan"))).outcome is ERROR


@pytest.mark.parametrize(
    ("after_s", "uncertainty_s", "outcome"),
    [
        (-5.0, 0.001, PASS),
        (-5.2, 0.001, PASS),
        (-4.8, 0.001, PASS),
        (-5.0, 0.300, ERROR),
        (-5.2, 0.100, ERROR),
        (-5.5, 0.001, FAIL),
        (-4.5, 0.001, FAIL),
        (0.0, 0.001, FAIL),
        (5.0, 0.001, FAIL),
    ],
)
def test_the_lag_must_be_the_pause(after_s, uncertainty_s, outcome):
    """No lag at all, too much of it, or a lag forwards: the pause is not what we think it is."""
    record = verdict("lag", clock_after_resume=clock(after_s, uncertainty_s))
    assert record.outcome is outcome
    assert (record.measured, record.allowed) == (after_s, pytest.approx(-5.0))
    assert record.unit == "s"


@pytest.mark.parametrize(
    ("after_s", "uncertainty_s", "outcome"),
    [
        (-5.0, 0.001, PASS),
        (-2.5, 0.001, PASS),
        (0.0, 0.001, PASS),
        (0.2, 0.001, PASS),
        (-5.5, 0.001, FAIL),
        (0.5, 0.001, FAIL),
        (-2.5, 0.300, ERROR),
        (float("nan"), 0.001, ERROR),
    ],
)
def test_a_guest_that_is_given_missed_ticks_may_lag_by_less(after_s, uncertainty_s, outcome):
    """By less than the pause, never by more, and it never gets ahead."""
    late = {"clock_after_resume": clock(after_s, uncertainty_s), "may_catch_up": True}
    record = verdict("lag", **late)
    assert record.outcome is outcome
    assert "QEMU delivers missed ticks" in record.detail


def test_the_lag_is_the_change_and_not_the_offset():
    """A clock that was an hour fast before is an hour less 5 s fast after."""
    changes = {"clock_before": clock(3600.0), "clock_after_resume": clock(3595.0)}
    assert verdict("lag", **changes).outcome is PASS
    changes["clock_before"] = clock(3601.0)
    assert verdict("lag", **changes).outcome is FAIL


def test_how_sure_the_lag_is_counts_both_readings_and_the_pause():
    """Each alone would pass; all together cannot tell."""
    readings = {"clock_before": clock(0.0, 0.1), "clock_after_resume": clock(-5.0, 0.1)}
    assert verdict("lag", **readings).outcome is PASS
    wide = {"paused_at_least_s": 4.9, "paused_at_most_s": 5.1}
    assert verdict("lag", **wide).outcome is PASS
    record = verdict("lag", **readings, **wide)
    assert (record.outcome, "± 0.300 s" in record.detail) == (ERROR, True)


@pytest.mark.parametrize(
    ("after_s", "outcome"),
    [(-1005.0, PASS), (-1005.2, PASS), (-1005.24, ERROR), (-1005.5, FAIL), (-1000.0, FAIL)],
)
def test_the_monotonic_clock_must_have_stood_still(after_s, outcome):
    """A guest whose CLOCK_MONOTONIC went on through the pause was not frozen."""
    record = verdict("frozen", clock_after_resume=clock(-5.0, monotonic_s=after_s))
    assert record.outcome is outcome
    assert record.measured == pytest.approx(-1000.0 - after_s)
    assert (record.allowed, record.unit) == (pytest.approx(5.0), "s")


@pytest.mark.parametrize("field", ["clock_before", "clock_after_resume"])
def test_without_a_monotonic_clock_nobody_can_tell_whether_it_stood_still(field):
    """A guest that only tells its realtime is not called frozen."""
    assert verdict("frozen", **{field: clock(-5.0)}).outcome is ERROR


def test_the_monotonic_deficit_is_how_far_it_fell_behind():
    """Positive: the guest's clock lost time; both uncertainties add up."""
    before, after = clock(0.0, monotonic_s=10.0), clock(0.0, monotonic_s=7.5)
    assert monotonic_deficit(before, after) == (2.5, 0.002)
    assert monotonic_deficit(None, after) is None
    assert monotonic_deficit(before, None) is None


@pytest.mark.parametrize(
    ("before", "after", "outcome"),
    [
        ("boot-1", "boot-1", PASS),
        ("boot-1", "boot-2", FAIL),
        ("boot-1", None, ERROR),
        (None, "boot-1", ERROR),
        ("", "", ERROR),
        (None, None, ERROR),
    ],
)
def test_another_boot_id_is_a_reboot(before, after, outcome):
    """And none at all, twice, is not the same one."""
    record = verdict("same-boot", before=Observed(before), after=Observed(after))
    assert record.outcome is outcome
    if outcome is not ERROR:
        assert (record.measured, record.allowed) == (after, before)


@pytest.mark.parametrize(
    ("after", "outcome", "measured"),
    [
        (ProcessIdentity(4711, 100), PASS, "4711@100"),
        (ProcessIdentity(4712, 100), FAIL, "4712@100"),
        (ProcessIdentity(4711, 101), FAIL, "4711@101"),
    ],
)
def test_another_process_is_another_ram(after, outcome, measured):
    """A pid that was given out again does not pass for the same process."""
    record = verdict("same-process", after=Observed("boot-1", after))
    assert (record.outcome, record.measured, record.allowed) == (outcome, measured, "4711@100")


def test_a_process_that_was_only_not_looked_at_is_not_called_gone():
    """It was visible before the pause; one that was seen to have ended is gone."""
    assert verdict("same-process", after=Observed("boot-1", None)).outcome is ERROR
    ended = Observed("boot-1", None, process_ended=True)
    record = verdict("same-process", after=ended)
    assert (record.outcome, record.measured) == (FAIL, "gone")


def test_a_kernel_log_with_a_gap_is_no_pass():
    """What it said right after the pause may be what is lost; a stall that it kept is a stall."""
    assert verdict("kernel-log", kernel_log_has_gap=True).outcome is ERROR
    kept = verdict("kernel-log", kernel_log_has_gap=True, stall_lines=(STALL,))
    assert kept.outcome is FAIL


def test_timer_units_that_systemd_did_not_tell_of_are_not_lost():
    """A timer that was late is late all the same."""
    units = Units({"a.timer": ("active", "1")})
    silent = Timers(0.25, 100, 0.02, 1, 100, units, None)
    assert verdict("timers", **told(silent)).outcome is ERROR
    assert verdict("timers", **told(replace(silent, late_s=9.0))).outcome is FAIL


def test_an_own_check_of_which_nothing_is_told_is_not_left_out():
    """Asked for, and not judged: it says so under its own name."""
    (record,) = judge_all(replace(GOOD, own_asked=("db",)), ())
    assert (record.name, record.outcome) == ("own:db", SKIP)
    silent = Missing("it fell silent", known_before=False)
    testimony = {**TESTIMONY, OwnChecks: silent}
    (record,) = judge_all(replace(GOOD, own_asked=("db",), testimony=testimony), ())
    assert (record.name, record.outcome, record.detail) == ("own:db", ERROR, "it fell silent")
    told_of = told(OwnChecks({"other": (Ended("after", 0),)}))
    records = judge_all(replace(GOOD, own_asked=("db", "other"), **told_of), ())
    assert {one.name: one.outcome for one in records} == {"own:db": ERROR, "own:other": PASS}


def test_a_process_that_was_never_visible_is_skipped():
    """Known before the pause, so it is no broken promise; not even if it shows up afterwards."""
    for after in (Observed(), SEEN):
        assert verdict("same-process", before=Observed("boot-1"), after=after).outcome is SKIP


def test_a_stall_in_the_kernel_log_fails_and_is_shown():
    """The first line is told, all are counted."""
    record = verdict("kernel-log", new_kernel_lines=("x", STALL, STALL), stall_lines=(STALL, STALL))
    assert (record.outcome, record.measured, record.allowed) == (FAIL, 2, 0)
    assert record.detail == STALL


def test_a_kernel_log_without_a_stall_passes_and_counts_what_it_read():
    """Other lines are nobody's fault."""
    record = verdict("kernel-log", new_kernel_lines=("a", "b"))
    assert (record.outcome, record.measured, record.detail) == (
        PASS,
        0,
        "2 new lines, none of a stall",
    )
    assert verdict("kernel-log").detail == "1 new line, none of a stall"


def test_a_kernel_log_that_this_user_may_not_read_is_skipped():
    """Known before the pause; whatever was read instead is not judged."""
    assert verdict("kernel-log", kernel_log_readable=False).outcome is SKIP
    changes = {"kernel_log_readable": False, "stall_lines": (STALL,)}
    assert verdict("kernel-log", **changes).outcome is SKIP


def test_the_evidence_of_a_log_that_was_read_is_what_the_check_judges():
    """From the guest's lines to the verdict."""
    log = KernelLog("marker", ("harmless", STALL))
    record = verdict("kernel-log", new_kernel_lines=log.new_lines, stall_lines=log.stalls)
    assert (record.outcome, record.detail) == (FAIL, STALL)


def test_the_pause_is_known_as_middle_and_half_width():
    """It lies between our inner and our outer bound."""
    evidence = replace(GOOD, paused_at_least_s=4.0, paused_at_most_s=5.0)
    assert evidence.pause_s == (4.5, 0.5)
    assert replace(GOOD, paused_at_least_s=None).pause_s is None
    assert replace(GOOD, paused_at_most_s=None).pause_s is None
