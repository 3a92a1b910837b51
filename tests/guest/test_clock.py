"""Clocks of real guests, wrong by a known amount, over good and bad networks.

Requires: the session's lab. Leaves behind: nothing; the guests' clocks are right.
"""

from __future__ import annotations

import os
import re
import statistics
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import paramiko
import pytest

from harness.clock.correction import correct
from harness.clock.policy import CorrectionPolicy
from harness.clock.sampling import Sampler
from harness.clock.target import Reach
from harness.core.records import Outcome
from harness.core.settings import SshSection
from harness.core.timebase import Deadline
from harness.guest.connector import SshConnector
from harness.testing.slow_way import slow_way

WRONG = [
    *(("debian-1", "python3", wrong_s) for wrong_s in (-3.0, 3.0, 3600.0)),
    *(("tiny-1", "sh", wrong_s) for wrong_s in (-3.0, 3.0, 3600.0)),
    ("debian-1", "perl", 3600.0),
    ("debian-1", "sh", -3.0),
]


def shift(session, seconds: float) -> None:
    """Set a guest's clock wrong by a known amount."""
    if session.sampler.can_step:
        session.sampler.step(round(seconds * 1e9), Deadline.after(10))
    else:
        reading = session.sampler.read(4, Deadline.after(10))
        now_s = session.sampler._clock.realtime_ns() / 1e9 + reading.offset_s
        session.sampler.set_second(round(now_s + seconds), Deadline.after(10))


@pytest.mark.parametrize(("name", "interpreter", "wrong_s"), WRONG)
def test_both_signs_of_error_are_measured_and_mended(session, name, interpreter, wrong_s):
    """Slow and fast, on every interpreter; back only because it is allowed here."""
    guest = session(name, interpreters=[interpreter])
    assert guest.sampler.interpreter == interpreter
    start = correct(guest.reach, CorrectionPolicy(0.050, allow_backward=True), Deadline.after(30))
    shift(guest, wrong_s)
    seen = guest.sampler.read(8, Deadline.after(10))
    slack_s = 0.05 if guest.sampler.can_step else 1.1  # the shell sets whole seconds
    assert seen.offset_s - start.after.offset_s == pytest.approx(wrong_s, abs=slack_s)
    policy = CorrectionPolicy(guest.tolerance_s, allow_backward=True)
    mended = correct(guest.reach, policy, Deadline.after(30))
    assert mended.refused is None, mended
    assert abs(mended.after.offset_s) + mended.after.uncertainty_s <= guest.tolerance_s


@pytest.mark.parametrize("name", ["debian-1", "tiny-1"])
def test_a_fast_clock_is_not_set_back_unless_that_is_allowed(session, name):
    """The refusal names the flag, and the clock stays as it was."""
    guest = session(name)
    shift(guest, 5.0)
    policy = CorrectionPolicy(guest.tolerance_s)
    assert "--allow-backward" in correct(guest.reach, policy, Deadline.after(30)).refused
    assert guest.sampler.read(4, Deadline.after(10)).offset_s > 3
    allowed = CorrectionPolicy(guest.tolerance_s, allow_backward=True)
    assert correct(guest.reach, allowed, Deadline.after(30)).refused is None


@contextmanager
def far_away(direct, lab, there_s: float, back_s: float) -> Iterator[Reach]:
    """The same guest over a way that takes its time."""
    with slow_way(direct.address, 22, there_s, back_s) as port:
        common = SshSection(user="root", port=port, identity_file=lab.identity_file)
        host_key = paramiko.HostKeys(str(lab.known_hosts)).lookup(direct.address)["ssh-ed25519"]
        own = SshSection(host_key=host_key.fingerprint)
        until = Deadline.after(30)
        shell = SshConnector().open(direct.name, "127.0.0.1", common, own, until)
        sampler = Sampler.open(shell, direct.facts, Deadline.after(30))
        try:
            yield Reach(sampler, shell, time_daemon=direct.facts.time_daemon)
        finally:
            sampler.close()
            shell.close()


@pytest.mark.parametrize("name", ["debian-1", "tiny-1"])
def test_over_a_slow_way_a_slow_clock_is_set_as_right_as_can_be_told(session, lab, name):
    """30 ms of round trip and more, 10 ms of tolerance: nearly right, and called an ERROR."""
    direct = session(name)
    right = CorrectionPolicy(0.050, allow_backward=True)
    shift(direct, -4.0)
    policy = CorrectionPolicy(0.010)
    with far_away(direct, lab, 0.015, 0.015) as reach:
        done = correct(reach, policy, Deadline.after(60))
    truth = direct.sampler.read(8, Deadline.after(10))
    assert correct(direct.reach, right, Deadline.after(30)).refused is None
    assert done.method is not None, done
    assert "only known to" in done.refused
    assert "not corrected" not in done.refused
    assert policy.judge(done.after) is Outcome.ERROR
    assert abs(truth.offset_s) <= done.after.uncertainty_s + abs(done.after.offset_s) + 0.005
    assert abs(truth.offset_s) < 0.3


@pytest.mark.parametrize("name", ["debian-1", "tiny-1"])
@pytest.mark.parametrize(("there_s", "back_s"), [(0.3, 0.3), (0.3, 0.0), (0.0, 0.3)])
def test_300_ms_of_latency_do_not_move_the_estimate_beyond_its_uncertainty(
    session, lab, name, there_s, back_s
):
    """Both ways, or all of it on one: the stated uncertainty still holds the truth."""
    direct = session(name)
    before = direct.sampler.read(8, Deadline.after(10))
    with far_away(direct, lab, there_s, back_s) as reach:
        slow = reach.sampler.read(3, Deadline.after(30))
    assert slow.uncertainty_s >= (there_s + back_s) / 2
    moved_s = abs(slow.offset_s - before.offset_s)
    assert moved_s <= slow.uncertainty_s + before.uncertainty_s


def test_twenty_pauses_of_one_guest_in_one_process_are_each_mended(session, libvirt):
    """The last is as good as the first, and nothing is left over: no memory, no open files."""
    guest = session("debian-1")
    policy = CorrectionPolicy(guest.tolerance_s, allow_backward=True)
    assert correct(guest.reach, policy, Deadline.after(30)).refused is None
    residuals, seen = [], []
    for _ in range(20):
        before = guest.sampler.read(8, Deadline.after(10))
        libvirt.pause(guest.info.uuid, Deadline.after(10))
        Deadline.after(1).clock.sleep(0.3)
        libvirt.resume(guest.info.uuid, Deadline.after(10))
        behind = guest.sampler.read(8, Deadline.after(10))
        assert behind.offset_s - before.offset_s == pytest.approx(-0.3, abs=0.25)
        mended = correct(guest.reach, policy, Deadline.after(30))
        assert (mended.method, mended.refused, mended.doubt) == ("chronyd", None, None)
        assert abs(mended.after.offset_s) + mended.after.uncertainty_s <= 0.010
        residuals.append(abs(mended.after.offset_s))
        status = Path("/proc/self/status").read_text()
        memory_kib = int(re.search(r"VmRSS:\s+(\d+)", status)[1])
        seen.append((memory_kib, len(os.listdir("/proc/self/fd"))))
    assert statistics.median(residuals[10:]) <= statistics.median(residuals[:10]) + 0.003
    assert seen[-1][0] - seen[4][0] < 8 * 1024, "memory grows"
    assert seen[-1][1] <= seen[4][1] + 1, "open files grow"


def test_show_and_correct_are_tools_of_their_own(harness, session):
    """Without any pause: measured, refused, mended, each with its exit code."""
    shift(session("debian-1"), -2.0)
    shown = harness("clock", "show", "debian-1", "--json")
    assert shown.code == 1
    row = shown.record["guests"][0]
    assert row["before"]["offset_s"] == pytest.approx(-2.0, abs=0.1)
    assert row["guest_agent_agrees"], row
    assert row["rtc_offset_s"] == pytest.approx(0.0, abs=2)
    assert row["host_synchronised"] in (True, False)
    mended = harness("clock", "correct", "debian-1", "--json")
    assert mended.code == 0
    assert mended.record["guests"][0]["method"] == "chronyd"
    assert harness("clock", "show", "debian-1").code == 0


def test_one_guest_that_fails_costs_the_others_nothing(harness, libvirt, lab):
    """tiny-1 is paused: its row says so, debian-1 is measured, the worst decides."""
    uuid = lab.guests[0].uuid
    libvirt.pause(uuid, Deadline.after(10))
    try:
        shown = harness("clock", "show", "tiny-1", "debian-1", "--json")
    finally:
        libvirt.resume(uuid, Deadline.after(10))
    rows = {row["name"]: row for row in shown.record["guests"]}
    assert shown.code == 3
    assert rows["tiny-1"]["outcome"] == "error"
    assert "is paused" in rows["tiny-1"]["problem"]
    assert rows["debian-1"]["after"]["uncertainty_s"] < 0.1
    assert harness("clock", "correct", "tiny-1").code == 0
