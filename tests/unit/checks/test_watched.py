"""What probes told, judged: broken is FAIL, silent is ERROR, not watched is SKIP, each told."""

from __future__ import annotations

from dataclasses import replace

import pytest

from harness.checks import CHECKS, judge_all
from harness.checks.canary import Canary
from harness.checks.custom import Ended, OwnChecks
from harness.checks.disk import DiskWriter
from harness.checks.downtime import Downtime
from harness.checks.evidence import Missing
from harness.checks.guest_life import Life, Look, parse, parse_files
from harness.checks.ram import Residency
from harness.checks.tcp_session import TcpSession
from harness.checks.timers import Timers, Units
from harness.checks.vcpus import VcpuTime
from harness.testing.evidence import GOOD, LOOK, RESIDENT, TESTIMONY, told
from tests.unit.checks.test_judges import ERROR, FAIL, PASS, SKIP, verdict

MIB = 1 << 20
WATCHED = [name for name, check in CHECKS.items() if check.needs]


def but(kind, **changes):
    """GOOD's testimony of that kind with something changed."""
    return told(replace(TESTIMONY[kind], **changes))


@pytest.mark.parametrize("name", WATCHED)
@pytest.mark.parametrize(("known_before", "outcome"), [(True, SKIP), (False, ERROR)])
def test_who_could_not_watch_is_skipped_and_who_fell_silent_is_an_error(
    name, known_before, outcome
):
    """Never a pass, and the reason is told."""
    gap = Missing("no python3", known_before)
    record = verdict(name, testimony={CHECKS[name].needs: gap})
    assert (record.outcome, record.detail) == (outcome, "no python3")


@pytest.mark.parametrize("name", WATCHED)
def test_a_check_that_nobody_watched_for_is_skipped(name):
    """Switched off, or of a kind that this run does not have."""
    assert verdict(name, testimony={}).outcome is SKIP


def test_only_the_chosen_checks_are_judged():
    """In the order in which people read them, whatever the order of choice."""
    records = judge_all(GOOD, ("ram", "clock"))
    assert [record.name for record in records] == ["clock", "ram"]


@pytest.mark.parametrize(
    ("after", "outcome", "measured"),
    [
        ({}, PASS, 0),
        ({"swap_bytes": 5 * MIB}, FAIL, 5 * MIB),
        ({"major_fault_bytes": 4096 + 3 * MIB}, FAIL, 3 * MIB),
        ({"major_fault_bytes": 4096 + MIB // 2}, PASS, MIB // 2),
    ],
)
def test_ram_that_was_swapped_out_or_read_in_again_fails_with_the_amount(after, outcome, measured):
    """A few pages of QEMU's own code are nobody's fault."""
    seen = replace(RESIDENT, **after)
    record = verdict("ram", **but(Residency, after=seen))
    assert (record.outcome, record.measured, record.unit) == (outcome, measured, "bytes")


def test_ram_that_was_swapped_during_the_pause_only_fails_as_well():
    """It was back by the end, which the guest had to wait for."""
    looks = {"resuming": replace(RESIDENT, swap_bytes=64 * MIB)}
    assert verdict("ram", **but(Residency, **looks)).outcome is FAIL


def test_ram_that_shrinks_in_the_pause_fails():
    """RAM in a file has no swap: its pages are just gone. It fails with how much, and its limit."""
    looks = {"resuming": replace(RESIDENT, rss_bytes=200 * MIB)}
    record = verdict("ram", **but(Residency, **looks))
    assert (record.outcome, record.measured, record.allowed) == (FAIL, 100 * MIB, 8 * MIB)


@pytest.mark.parametrize("edge", ["paused", "resuming", "after"])
def test_ram_that_was_not_seen_at_an_edge_is_an_error(edge):
    """Resumed by the guardian, say."""
    assert verdict("ram", **but(Residency, **{edge: None})).outcome is ERROR


@pytest.mark.parametrize(
    ("resuming", "outcome"),
    [
        ({11: 500}, PASS),
        ({11: 1_500_000}, PASS),
        ({11: 9_000_000}, FAIL),  # an idle guest's second
        ({12: 500}, ERROR),
        ({}, ERROR),
        (None, ERROR),
    ],
)
def test_a_vcpu_that_used_time_was_not_frozen(resuming, outcome):
    """Other threads than before cannot be compared."""
    assert verdict("vcpus", **but(VcpuTime, resuming=resuming)).outcome is outcome


def test_a_canary_that_changed_fails():
    """One bit is another digest."""
    record = verdict("canary", **but(Canary, after="b" * 64))
    assert (record.outcome, record.measured, record.allowed) == (FAIL, "b" * 16, "a" * 16)


@pytest.mark.parametrize(
    ("silent_s", "at_least_s", "outcome"),
    [
        (5.0, 0.0, PASS),
        (5.9, 0.0, PASS),
        (6.5, 0.0, FAIL),
        (4.95, 0.0, PASS),
        (3.0, 0.0, FAIL),
        (None, 9.0, FAIL),
        (None, 5.5, ERROR),
    ],
)
def test_downtime_is_the_pause_no_more_and_no_less(silent_s, at_least_s, outcome):
    """A guest that answers while it is paused is not paused."""
    changes = but(Downtime, silent_s=silent_s, silent_at_least_s=at_least_s)
    assert verdict("downtime", **changes).outcome is outcome


@pytest.mark.parametrize(
    ("changes", "outcome", "measured"),
    [
        ({"answered": 58}, FAIL, 2),
        ({"wrong": 1}, FAIL, 1),
        ({"broken": "reset"}, FAIL, 0),
        ({"retransmissions": 500}, PASS, 0),
        ({"retransmissions": None}, PASS, 0),
    ],
)
def test_a_tcp_session_loses_nothing_and_keeps_the_order(changes, outcome, measured):
    """Segments that were sent again are how TCP survives."""
    record = verdict("tcp-session", **but(TcpSession, **changes))
    assert (record.outcome, record.measured) == (outcome, measured)


@pytest.mark.parametrize(
    ("changes", "outcome"),
    [
        ({"lost": 1}, FAIL),
        ({"torn": 1}, FAIL),
        ({"problem": "No space left on device"}, FAIL),
        ({"stalled_s": 9.0}, PASS),
        ({"acknowledged": 40}, ERROR),
    ],
)
def test_what_was_acknowledged_is_on_the_disk(changes, outcome):
    """And a writer that wrote nothing after the pause proves nothing."""
    assert verdict("disk", **but(DiskWriter, **changes)).outcome is outcome


@pytest.mark.parametrize(
    ("changes", "outcome"),
    [
        ({"late_s": 2.0, "burst": 40}, FAIL),
        ({"realtime_burst": 100}, PASS),
        ({"fired": 0}, ERROR),
        ({"units_before": Units({"a.timer": ("active", "x")}),
          "units_after": Units({"a.timer": ("active", "y")})}, PASS),
        ({"units_before": Units({"a.timer": ("active", "x")}),
          "units_after": Units({"a.timer": ("failed", "x")})}, FAIL),
        ({"units_before": Units({"a.timer": ("active", "x")}), "units_after": Units({})}, FAIL),
    ],
)  # fmt: skip
def test_timers_fire_in_time_and_no_unit_is_lost(changes, outcome):
    """The burst of a real-time timer is the clock's correction, and is only told."""
    assert verdict("timers", **but(Timers, **changes)).outcome is outcome


def test_a_long_running_process_that_is_gone_fails_and_is_named():
    """Also if its pid was given to another; one that was young was perhaps about to end."""
    after = replace(LOOK, processes={(1, 5): "init", (400, 100_900): "cron"})
    record = verdict("processes", **told(Life(LOOK, LOOK, after, long_running_s=5)))
    assert (record.outcome, record.measured, record.detail) == (FAIL, 1, "cron (pid 400)")
    assert verdict("processes", **told(Life(LOOK, LOOK, after))).outcome is PASS


@pytest.mark.parametrize(
    ("mounts", "outcome"),
    [
        ({"/": "/dev/vda ext4 rw", "/new": "x tmpfs rw"}, PASS),
        ({"/": "/dev/vda ext4 ro"}, FAIL),
        ({}, FAIL),
    ],
)
def test_a_file_system_that_is_gone_or_read_only_fails(mounts, outcome):
    """ext4 remounts itself read-only when its disk is gone for too long."""
    after = replace(LOOK, mounts=mounts)
    assert verdict("mounts", **told(Life(LOOK, LOOK, after))).outcome is outcome


@pytest.mark.parametrize(
    ("resets", "outcome"), [(3, PASS), (4, FAIL), (9, FAIL), (0, ERROR)]
)  # fmt: skip
def test_a_connection_that_is_gone_fails_if_it_was_not_closed(resets, outcome):
    """The kernel counts those that ended otherwise; fewer than before is another boot."""
    after = replace(LOOK, connections=frozenset(), resets=resets)
    assert verdict("connections", **told(Life(LOOK, LOOK, after))).outcome is outcome


def test_a_connection_that_came_late_or_stays_is_no_reason_to_fail():
    """Only what two looks have found counts; resets of others do not."""
    after = replace(LOOK, resets=50)
    assert verdict("connections", **told(Life(LOOK, LOOK, after))).outcome is PASS
    new = replace(LOOK, connections=frozenset())
    gone = replace(new, resets=50)
    both = replace(LOOK, connections=frozenset({"a → b", "c → d"}))
    stayed = replace(LOOK, resets=50)
    assert verdict("connections", **told(Life(LOOK, both, stayed))).outcome is PASS
    assert verdict("connections", **told(Life(new, LOOK, gone))).outcome is SKIP


def test_a_connection_whose_peer_was_gone_before_the_pause_is_not_broken_by_it():
    """The guest was sending again already, and gave up during our maintenance."""
    before = replace(LOOK, unanswered=LOOK.connections)
    after = replace(LOOK, connections=frozenset(), resets=4)
    assert verdict("connections", **told(Life(LOOK, before, after))).outcome is SKIP
    two = replace(LOOK, connections=frozenset({"a → b", "c → d"}))
    before, after = (
        replace(two, unanswered=LOOK.connections),
        replace(after, connections=frozenset({"c → d"})),
    )
    assert verdict("connections", **told(Life(two, before, after))).outcome is PASS


@pytest.mark.parametrize(
    ("statuses", "outcome"),
    [
        ((0, 0, 0), PASS),
        ((0, 1, 0), FAIL),
        ((1, 0, 0), FAIL),
        ((0, 1, 3), ERROR),
        ((0, None, 0), ERROR),
        ((0, -9, 0), ERROR),
        ((77,), SKIP),
    ],
)
def test_the_exit_status_of_the_users_own_is_the_outcome(statuses, outcome):
    """The worst stage counts; what did not end could not judge."""
    stages = zip(("before", "during", "after"), statuses, strict=False)
    ended = tuple(Ended(stage, status) for stage, status in stages)
    (record,) = judge_all(replace(GOOD, **told(OwnChecks({"db": ended}))), ())
    assert (record.name, record.outcome) == ("own:db", outcome)


PROC = """=== uptime
1000.25 3000.00
=== stat
1 (init (x) y) S 0 1 1 0 -1 4 1 1 1 1 1 1 1 1 20 0 1 0 5 1 1
2 (kthreadd) S 0 0 0 0 -1 4 1 1 1 1 1 1 1 1 20 0 1 0 6 1 1
30 (kworker/0:1) I 2 0 0 0 -1 4 1 1 1 1 1 1 1 1 20 0 1 0 7 1 1
40 (two
lines) S 1 40 40 0 -1 4 1 1 1 1 1 1 1 1 20 0 1 0 800 1 1
=== mounts
/dev/vda / ext4 rw,relatime 0 0
tmpfs /run/user/0 tmpfs rw 0 0
systemd-1 /x autofs rw 0 0
=== tcp
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid
   0: 0100007F:0016 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0
   1: 0100007F:0016 0100007F:9999 01 00000000:00000000 00:00000000 00000000     0
   2: 0100007F:0016 0A00007F:8888 01 00000040:00000000 01:00000200 00000007     0
=== snmp
Ip: Forwarding
Tcp: RtoAlgorithm EstabResets
Tcp: 1 17
"""


def test_proc_is_read_as_it_is():
    """Names with parentheses, half lines, kernel threads, fleeting mounts, listening sockets."""
    look = parse(PROC)
    assert look == Look(
        uptime_s=1000.25,
        processes={(1, 5): "init (x) y"},
        mounts={"/": "/dev/vda ext4 rw"},
        connections=frozenset({"0100007F:0016 → 0100007F:9999", "0100007F:0016 → 0A00007F:8888"}),
        resets=17,
        unanswered=frozenset({"0100007F:0016 → 0A00007F:8888"}),
    )


def test_proc_is_read_the_same_from_a_shell():
    """Each line after its file, so that the name of a process cannot pass for another file's."""
    files = {"uptime": "uptime", "stat": "40/stat", "mounts": "mounts", "tcp": "net/tcp"}
    told, file = [], ""
    for line in PROC.replace("lines) S", "/proc/mounts:evil /etc ext4 rw) S").splitlines():
        if line.startswith("=== "):
            file = files.get(line[4:], "net/snmp")
        else:
            told.append(f"/proc/{file}:{line}")
    assert parse_files(told) == parse(PROC)


@pytest.mark.parametrize("text", ["", "=== uptime\n1 1\n", "sh: cat: not found\n"])
def test_proc_that_cannot_be_read_is_no_look(text):
    """Not one without processes."""
    with pytest.raises(ValueError, match="no uptime"):
        parse(text)
    with pytest.raises(ValueError, match="no uptime"):
        parse_files(text.splitlines())
