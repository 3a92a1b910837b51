"""What each check says to the letter, when its promise is kept, broken at the limit, or unknown.

The records are read by people and by programs. ``tests/data/checks.json`` holds them as they were
read and approved by a person.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.checks import CHECKS, judge_all
from harness.checks.canary import Canary
from harness.checks.custom import Ended, OwnChecks
from harness.checks.disk import DiskWriter
from harness.checks.downtime import Downtime
from harness.checks.evidence import Evidence, HostChange, Missing, Swapped
from harness.checks.guest_life import Life
from harness.checks.ram import ALLOWED_BYTES, ALLOWED_SHRINK_BYTES, Residency
from harness.checks.tcp_session import TcpSession
from harness.checks.timers import ALLOWED_LATE_S, Timers, Units
from harness.checks.vcpus import ALLOWED_S, VcpuTime
from harness.core.records import ClockReading, IdentityRecord, Outcome, WatchRecord
from harness.host.protocol import ProcessIdentity
from harness.testing.evidence import GOOD, LOOK, NOTHING, RESIDENT, SEEN, STALL, clock, told

APPROVED = Path(__file__).parents[2] / "data" / "checks.json"


def _ram(**after: Any) -> Evidence:
    worse = replace(RESIDENT, **after)
    before = replace(RESIDENT, ram_bytes=128 << 20)
    return replace(GOOD, **told(Residency(before, RESIDENT, worse, RESIDENT)))


def _vcpu(used_s: float) -> Evidence:
    return replace(GOOD, **told(VcpuTime({1: 0, 2: 7}, {1: round(used_s * 1e9), 2: 7})))


def _changed(**changes: Any) -> Evidence:
    plain = HostChange("6.1", "6.12", "6.12", "one", "two", -0.278, 0.002)
    return replace(GOOD, change=replace(plain, **changes))


def _downtime(*values: Any) -> Evidence:
    return replace(GOOD, **told(Downtime(*values)))


def _timers(**changes: Any) -> Evidence:
    units = (Units({"a.timer": ("active", "1"), "b.timer": ("active", "1")}),) * 2
    plain = Timers(0.25, 100, 0.02, 1, 100, *units)
    return replace(GOOD, **told(replace(plain, **changes)))


def _life(first: Any = LOOK, before: Any = LOOK, **after: Any) -> Evidence:
    return replace(GOOD, **told(Life(first, before, replace(LOOK, **after))))


def _watch(**values: Any) -> Evidence:
    return replace(GOOD, watch=WatchRecord(**values))


def _host_set(by_s: float) -> Evidence:
    """The host's own clock was set forwards meanwhile, so the guest's offset fell by as much."""
    before, after = clock(0.0), clock(-5.0 - by_s)
    return replace(
        GOOD,
        clock_before=before.model_copy(update={"host_ahead_s": -by_s / 2}),
        clock_after_resume=after.model_copy(update={"host_ahead_s": by_s / 2}),
    )


def _unsure(reading: ClockReading) -> ClockReading:
    return reading.model_copy(update={"monotonic_uncertainty_s": None})


OLD = replace(LOOK, processes={**LOOK.processes, (2, 9): "getty", (400, 9): "sshd"})
YOUNG = replace(LOOK, processes={(1, 99_000): "init"})
SWAPPED = Swapped(
    ProcessIdentity(4712, 200), {"pc.ram": "42:7"}, {"pc.ram": "42:7"}, "10.0.2 (x)", "10.0.2 (x)"
)


def _swapped(process: ProcessIdentity | None = SWAPPED.process, **changes: Any) -> Evidence:
    after = replace(SEEN, process=process)
    return replace(GOOD, after=after, swapped=replace(SWAPPED, **changes))


SWAPPED_EVENTS = ("suspended", "stopped", "started", "suspended", "resumed")


def _events(*kinds: str) -> Evidence:
    return replace(GOOD, events=kinds)


HIDDEN = replace(LOOK, processes={(400, 9): "sh"})

#: Check → what happened → the evidence of it.
CASES: dict[str, dict[str, Evidence]] = {
    "pause-window": {
        "at the budget": replace(GOOD, paused_at_most_s=30.0),
        "over it": replace(GOOD, paused_at_most_s=30.001),
    },
    "identity": {
        "by its MAC": replace(
            GOOD, identity=IdentityRecord(bound_by="mac", detail="MAC 52:54:00:00:00:01")
        ),
        "not bound": replace(GOOD, identity=IdentityRecord(detail="no guest agent tells")),
    },
    "downtime": {
        "at the limit": _downtime("icmp", 0.1, 6.01, 0.0, 9, 9),
        "longer": _downtime("icmp", 0.1, 6.011, 0.0, 9, 9),
        "answered while paused": _downtime("udp", 0.01, 4.8, 0.0, 9, 9),
        "forgiven": _downtime("udp", 0.01, 4.9, 0.0, 9, 9),
        "silent to the end": _downtime("udp", 0.01, None, 3.0, 9, 5),
        "silent for too long": _downtime("udp", 0.01, None, 30.0, 9, 5),
        "forgiven, at the limit": replace(
            _downtime("udp", 0.01, 4.9, 0.0, 9, 9), paused_at_least_s=5.0
        ),
        "no pause of this run": replace(GOOD, paused_at_most_s=None),
    },
    "clock": {
        "wrong": replace(GOOD, clock_at_end=clock(-4.0)),
        "unsure": replace(GOOD, clock_at_end=clock(0.0095)),
        "problem": replace(GOOD, clock_at_end=None, correction_problem="it is gone"),
        "doubt": replace(GOOD, correction_doubt="ntpd may undo it"),
    },
    "watch": {
        "not asked": replace(GOOD, watch_asked=False),
        "not begun": replace(GOOD, watch=None),
        "drift": _watch(
            outcome=Outcome.FAIL,
            duration_s=60.0,
            readings=30,
            worst_offset_s=0.2,
            drift_ppm=-12.4,
            drift_uncertainty_ppm=0.6,
            detail="jumped",
        ),
        "drift, nobody knows how sure": _watch(
            outcome=Outcome.PASS, duration_s=60.0, readings=30, worst_offset_s=0.0, drift_ppm=3.0
        ),
        "how sure, of no drift": _watch(
            outcome=Outcome.PASS,
            duration_s=60.0,
            readings=30,
            worst_offset_s=0.0,
            drift_uncertainty_ppm=3.0,
        ),
        "no drift": _watch(outcome=Outcome.PASS, duration_s=6.0, readings=3, worst_offset_s=0.0),
    },
    "lag": {
        "none": replace(GOOD, clock_after_resume=clock(0.0)),
        "half": replace(GOOD, clock_after_resume=clock(-2.5)),
        "unsure": replace(GOOD, clock_after_resume=clock(-5.2, 0.1)),
        "the host was set": _host_set(0.5),
        "the host was hardly set": _host_set(0.01),
    },
    "frozen": {
        "ran": replace(GOOD, clock_after_resume=clock(-5.0, monotonic_s=-1000.0)),
        "nobody knows how sure, before": replace(
            GOOD, clock_before=_unsure(clock(0.0, monotonic_s=-1000.0))
        ),
        "nobody knows how sure, after": replace(
            GOOD, clock_after_resume=_unsure(clock(-5.0, monotonic_s=-1005.0))
        ),
    },
    "vcpus": {
        "at the limit": _vcpu(ALLOWED_S),
        "over it": _vcpu(2 * ALLOWED_S),
        "not read": replace(GOOD, **told(VcpuTime(None, {1: 0}))),
        "others": replace(GOOD, **told(VcpuTime({1: 0}, {2: 0}))),
        "another QEMU": _swapped(),
    },
    "same-boot": {"rebooted": replace(GOOD, after=replace(SEEN, boot_id="boot-2"))},
    "same-process": {
        "another": replace(GOOD, after=replace(SEEN, process=ProcessIdentity(4712, 100))),
        "gone": replace(GOOD, after=replace(SEEN, process=None, process_ended=True)),
        "not looked at": replace(GOOD, after=replace(SEEN, process=None)),
        "the planned other": _swapped(),
        "another than planned": _swapped(ProcessIdentity(4713, 300)),
        "the old one, where another was planned": _swapped(SEEN.process),
    },
    "libvirt-events": {
        "ran meanwhile": _events("suspended", "resumed", "suspended", "resumed"),
        "paused again": _events("suspended", "resumed", "suspended"),
        "not paused": _events("resumed"),
        "none": _events(),
        "another QEMU": replace(_swapped(), events=SWAPPED_EVENTS),
        "another QEMU, twice": replace(
            _swapped(), events=(*SWAPPED_EVENTS[:3], *SWAPPED_EVENTS[1:])
        ),
        "the old QEMU": replace(_swapped(), events=("suspended", "resumed")),
        "another QEMU, not planned": _events(*SWAPPED_EVENTS),
    },
    "qemu-version": {
        "as planned": _swapped(),
        "another": _swapped(version_after="7.2.22 (x)"),
        "not told": _swapped(version_after=None),
    },
    "ram-inode": {
        "the same": _swapped(),
        "another": _swapped(ram_after={"pc.ram": "42:8"}),
        "one more": _swapped(ram_after={"pc.ram": "42:7", "dimm0": "42:9"}),
        "not seen": _swapped(ram_after=None),
    },
    "host-kernel": {
        "as planned": _changed(),
        "the old one": _changed(release_now="6.1"),
        "a third": _changed(release_now="5.10"),
    },
    "host-boot": {
        "another": _changed(),
        "the same": _changed(boot_now="one"),
        "not known": _changed(boot_before=""),
    },
    "host-clock": {
        "at the limit": _changed(clock_known_s=GOOD.tolerance_s),
        "beyond it": _changed(clock_known_s=GOOD.tolerance_s + 0.001),
        "not set": _changed(clock_moved_s=None),
    },
    "ram": {
        "another QEMU": _swapped(),
        "at the limit": _ram(swap_bytes=ALLOWED_BYTES),
        "swapped": _ram(swap_bytes=ALLOWED_BYTES + 1),
        "faulted, in the end": replace(
            GOOD,
            **told(
                Residency(
                    RESIDENT, RESIDENT, RESIDENT, replace(RESIDENT, major_fault_bytes=9 << 20)
                )
            ),
        ),
        "touched for the first time, on a region": replace(
            GOOD,
            **told(
                Residency(
                    RESIDENT,
                    RESIDENT,
                    RESIDENT,
                    replace(RESIDENT, major_fault_bytes=9 << 20),
                    set_aside=True,
                )
            ),
        ),
        "what was in swap before": replace(
            GOOD, **told(Residency(*[replace(RESIDENT, swap_bytes=7 << 20)] * 4))
        ),
        "shrunk a little": _ram(rss_bytes=(300 << 20) - ALLOWED_SHRINK_BYTES),
        "shrunk": _ram(rss_bytes=(300 << 20) - ALLOWED_SHRINK_BYTES - 1),
        "its own tables freed": _ram(rss_bytes=200 << 20, ram_bytes=128 << 20),
        "RAM shrunk a little": _ram(
            rss_bytes=200 << 20, ram_bytes=(128 << 20) - ALLOWED_SHRINK_BYTES
        ),
        "RAM shrunk": _ram(rss_bytes=200 << 20, ram_bytes=(128 << 20) - ALLOWED_SHRINK_BYTES - 1),
        "not read": replace(GOOD, **told(Residency(RESIDENT, None, RESIDENT, RESIDENT))),
    },
    "canary": {"changed": replace(GOOD, **told(Canary(1 << 16, "a" * 64, "b" * 64)))},
    "processes": {
        "gone": _life(OLD, OLD, processes={**LOOK.processes, (2, 9): "getty"}),
        "hidden at the first look": _life(first=HIDDEN),
        "two gone": _life(OLD, OLD, processes=LOOK.processes),
        "none old": _life(YOUNG, YOUNG),
        "hidden": _life(HIDDEN, HIDDEN),
        "hidden afterwards": _life(processes=HIDDEN.processes),
    },
    "connections": {
        "broken": _life(connections=frozenset(), resets=4),
        "closed by itself": _life(connections=frozenset()),
        "counted anew": _life(connections=frozenset(), resets=1),
        "none": _life(replace(LOOK, connections=frozenset())),
        "not told": _life(before=replace(LOOK, connections=None)),
        "not counted": _life(before=replace(LOOK, resets=None)),
        "not told any more": _life(connections=None),
        "not counted any more": _life(connections=frozenset(), resets=None),
    },
    "mounts": {
        "changed": _life(mounts={"/": "/dev/vda ext4 ro"}),
        "gone": _life(mounts={}),
        "two gone": _life(before=replace(LOOK, mounts={"/a": "x ext4 rw", "/b": "y ext4 rw"})),
        "a new one": _life(mounts={**LOOK.mounts, "/mnt": "tmpfs"}),
    },
    "tcp-session": {
        "nothing sent": replace(GOOD, **told(TcpSession("tcp", 0, 0, 0, 0, None, 0))),
        "lost": replace(GOOD, **told(TcpSession("tcp", 60, 58, 5, 1, None, None))),
        "broken": replace(GOOD, **told(TcpSession("tcp", 60, 60, 5, 0, "reset by peer", 3))),
    },
    "disk": {
        "lost and torn": replace(GOOD, **told(DiskWriter("/v", 90, 40, 2, 1, 0.0512))),
        "an error": replace(GOOD, **told(DiskWriter("/v", 40, 40, 0, 0, 0.05, "EIO"))),
        "nothing after it": replace(GOOD, **told(DiskWriter("/v", 40, 40, 0, 0, 0.05))),
        "a long stall": replace(GOOD, **told(DiskWriter("/v", 90, 40, 0, 0, 5.0))),
    },
    "timers": {
        "units as before": _timers(),
        "at the limit": _timers(late_s=ALLOWED_LATE_S),
        "late": _timers(late_s=ALLOWED_LATE_S + 0.001),
        "never fired": _timers(fired=0),
        "a unit lost, one changed": _timers(units_after=Units({"b.timer": ("failed", "1")})),
        "a unit fired": _timers(
            units_after=Units({"a.timer": ("active", "1"), "b.timer": ("active", "2")})
        ),
        "both fired": _timers(
            units_after=Units({"a.timer": ("active", "2"), "b.timer": ("active", "2")})
        ),
        "both lost": _timers(units_after=Units({})),
        "systemd is silent": _timers(units_after=None),
    },
    "kernel-log": {
        "stalled": replace(GOOD, new_kernel_lines=(STALL,), stall_lines=(STALL,)),
        "not read": replace(GOOD, new_kernel_lines=None, stall_lines=None),
        "with a gap": replace(GOOD, kernel_log_has_gap=True),
    },
}


def _said(name: str, evidence: Evidence) -> dict[str, Any]:
    record = CHECKS[name](evidence)
    return json.loads(record.model_dump_json())


def _everything() -> dict[str, dict[str, Any]]:
    every = {
        "kept": GOOD,
        "nothing measured": NOTHING,
        "not watched": replace(GOOD, testimony={}),
    }
    known = {
        "missing beforehand": replace(
            GOOD,
            testimony={kind: Missing("no python3", known_before=True) for kind in GOOD.testimony},
        )
    }
    return {
        name: {
            case: _said(name, evidence)
            for case, evidence in {**every, **known, **CASES.get(name, {})}.items()
        }
        for name in CHECKS
    }


@pytest.mark.parametrize("name", CHECKS)
def test_a_check_says_what_was_approved(name):
    """Outcome, measured, allowed, unit and words."""
    approved = json.loads(APPROVED.read_text(encoding="utf-8"))
    assert _everything()[name] == approved[name]


def test_every_check_is_approved():
    """A new check has its words read by a person as well."""
    assert list(json.loads(APPROVED.read_text(encoding="utf-8"))) == list(CHECKS)


def test_a_check_of_ones_own_says_how_each_stage_ended():
    """The worst is what was measured; it did not end, where there is no status."""
    stages: dict[str, tuple[Ended, ...]] = {
        "db": (Ended("before", 0), Ended("after", 1)),
        "web": (Ended("before", 0), Ended("after", None, "did not end in 5 s")),
    }
    asked = replace(GOOD, own_asked=("db", "web", "mail"), **told(OwnChecks(stages)))
    records = judge_all(asked, ())
    assert [json.loads(record.model_dump_json()) for record in records] == [
        {
            "name": "own:mail",
            "outcome": "error",
            "measured": None,
            "allowed": None,
            "unit": None,
            "detail": "was not run",
        },
        {
            "name": "own:db",
            "outcome": "fail",
            "measured": 1,
            "allowed": 0,
            "unit": "exit status",
            "detail": "before: exit 0, after: exit 1",
        },
        {
            "name": "own:web",
            "outcome": "error",
            "measured": None,
            "allowed": 0,
            "unit": "exit status",
            "detail": "before: exit 0, after: did not end in 5 s",
        },
    ]
