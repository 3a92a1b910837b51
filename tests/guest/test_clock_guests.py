"""Clocks of guests that make it hard: daemons, missing rights, broken interpreters, lies.

Requires: the session's lab. Leaves behind: nothing; debian-1 is as it was, its clock right.
"""

from __future__ import annotations

from contextlib import contextmanager

import pytest

from harness.clock.correction import correct
from harness.clock.monitor import watch
from harness.clock.policy import CorrectionPolicy
from harness.core.errors import ProbeError
from harness.core.settings import SshSection
from harness.core.timebase import Deadline
from harness.guest.connector import SshConnector
from harness.guest.facts import gather

#: `date -s '-4 seconds'` sets it back by as much more as it takes itself: 0.25 s on a busy machine.
BACK_4_S = (
    "import time as t; t.clock_settime(t.CLOCK_REALTIME, t.clock_gettime(t.CLOCK_REALTIME) - 4)"
)


def soon(seconds: float = 30) -> Deadline:
    return Deadline.after(seconds)


def tell(session, command: str) -> str:
    """Run a command in the guest; it must work."""
    return session.shell.run(command, soon()).stdout


@pytest.fixture
def debian(session):
    """debian-1, right to begin with and in the end."""
    guest = session("debian-1")
    policy = CorrectionPolicy(0.010, allow_backward=True, ceiling_s=1e10)
    assert correct(guest.reach, policy, soon()).refused is None
    yield guest
    assert correct(guest.reach, policy, soon()).refused is None


@contextmanager
def instead_of(guest, path: str, script: str):
    """Another program in place of one of the guest's, found first in its PATH."""
    tell(guest, f"printf '#!/bin/sh\\n{script}\\n' >{path} && chmod +x {path}")
    try:
        yield
    finally:
        tell(guest, f"rm {path}")


def test_the_agent_is_small(debian):
    """It lives in the guest through the pause, and must not cost it much."""
    each = "for pid in $(pgrep -f '^python3 -[I]SB'); do grep VmHWM /proc/$pid/status; done"
    sizes_kib = [int(line.split()[1]) for line in tell(debian, each).splitlines()]
    assert sizes_kib
    assert max(sizes_kib) <= 12 * 1024


def test_the_ptp_clock_is_refused_under_emulation_and_says_so(debian):
    """There is no KVM to hand the host's clock in; nothing is corrected."""
    if debian.info.accelerator != "tcg":
        pytest.skip("this guest may have one")
    debian.sampler.step(-1_000_000_000, soon())
    policy = CorrectionPolicy(0.010, methods=("ptp-kvm",))
    assert "ENODEV" in correct(debian.reach, policy, soon()).refused


def test_the_guest_agent_sets_the_clock_to_the_nanosecond_it_was_told(debian):
    """And what it is late by is compensated in the next attempt."""
    debian.sampler.step(-3_000_000_000, soon())
    policy = CorrectionPolicy(0.050, methods=("guest-agent",), allow_backward=True)
    mended = correct(debian.reach, policy, soon(60))
    assert (mended.method, mended.refused) == ("guest-agent", None), mended


def test_a_clock_that_is_years_off_is_for_a_person(debian):
    """Measured to the millisecond all the same; the ceiling is a setting."""
    years_s = 20 * 365 * 86_400
    debian.sampler.step(-years_s * 1_000_000_000, soon())
    found = correct(debian.reach, CorrectionPolicy(0.010), soon())
    assert "a person should look first" in found.refused
    assert found.after.offset_s == pytest.approx(-years_s, abs=0.1)


def test_a_step_that_somebody_undoes_is_seen_by_the_watch(debian):
    """By the readings and by the probe in the guest."""
    tell(debian, f"(sleep 2; python3 -ISc '{BACK_4_S}') >/dev/null 2>&1 &")
    seen = watch(debian.sampler, CorrectionPolicy(0.010), 5.0, soon())
    assert (seen.outcome, seen.undone) == ("fail", True), seen
    assert seen.jumps[0].by_s == pytest.approx(-4, abs=0.1)
    assert seen.witness.realtime_went_back == 1
    assert seen.witness.worst_back_s == pytest.approx(4, abs=0.5)


@pytest.mark.parametrize("unit", ["chrony", "systemd-timesyncd"])
def test_a_daemon_neither_fights_nor_undoes_the_step(debian, session, unit):
    """Stepped with it running, watched after it: no jump, no way back."""
    other = {"chrony": "systemd-timesyncd", "systemd-timesyncd": "chrony"}[unit]
    tell(debian, f"systemctl stop {other}; systemctl start {unit}")
    try:
        guest = session("debian-1")
        guest.sampler.step(-3_000_000_000, soon())
        mended = correct(guest.reach, CorrectionPolicy(0.010), soon())
        expected = {"chrony": "chronyd", "systemd-timesyncd": "timesyncd"}[unit]
        assert (mended.method, mended.refused, mended.doubt) == (expected, None, None)
        seen = watch(guest.sampler, CorrectionPolicy(0.010), 5.0, soon())
        assert seen.outcome == "pass", seen
        assert seen.witness.jumps == seen.witness.realtime_went_back == 0
    finally:
        tell(debian, "systemctl stop systemd-timesyncd; systemctl start chrony")


def test_a_chronyc_that_is_refused_is_an_error_that_says_so(debian, harness):
    """The clock is right now, and may not stay so: exit 3, unless it was watched."""
    debian.sampler.step(-3_000_000_000, soon())
    with instead_of(debian, "/usr/local/bin/chronyc", "echo 501 Not authorised; exit 1"):
        ended = harness("clock", "correct", "debian-1", "--json")
        row = ended.record["guests"][0]
        assert (ended.code, row["outcome"], row["method"]) == (3, "error", "chronyd")
        assert "chronyc: 501 Not authorised" in row["problem"]
        debian.sampler.step(-3_000_000_000, soon())
        ended = harness("clock", "correct", "debian-1", "--watch", "2s", "--json")
        assert ended.code == 0, ended.out


def test_an_interpreter_that_is_broken_is_passed_over(debian, session):
    """It says something else and ends; the next one does the work."""
    with instead_of(debian, "/usr/local/bin/python3", "echo lies; exit 1"):
        guest = session("debian-1")
        assert guest.sampler.interpreter == "perl"
        assert guest.sampler.read(8, soon()).uncertainty_s < 0.1


def test_a_user_without_the_right_is_told_which_one(debian, lab):
    """Reading works, setting does not: CAP_SYS_TIME is named; by sudo -n it works."""
    tell(
        debian,
        "id someone >/dev/null 2>&1 || useradd -m -s /bin/sh someone; mkdir -p ~someone/.ssh; "
        "cp /root/.ssh/authorized_keys ~someone/.ssh/ && chown -R someone ~someone/.ssh; "
        "rm -f /etc/sudoers.d/someone",
    )
    debian.sampler.step(-2_000_000_000, soon())
    common = SshSection(
        user="someone", identity_file=lab.identity_file, known_hosts=lab.known_hosts
    )
    shell = SshConnector().open("debian-1", debian.address, common, SshSection(), soon())
    try:
        _without_and_with_sudo(debian, shell)
    finally:
        shell.close()
        tell(debian, "rm -f /etc/sudoers.d/someone")


def _without_and_with_sudo(debian, shell):
    from harness.clock.sampling import Sampler
    from harness.clock.target import Reach

    facts = gather(shell, soon())
    for interpreter in ("python3", "perl", "sh"):
        sampler = Sampler.open(shell, facts, soon(), interpreters=(interpreter,))
        assert sampler.read(8, soon()).offset_s == pytest.approx(-2.0, abs=0.2)
        # Far less than it is wrong by, and more than a busy guest's sh leaves unknown.
        refused = correct(Reach(sampler, shell), CorrectionPolicy(0.5), soon()).refused
        assert "CAP_SYS_TIME" in refused, refused
        assert "sudo = true" in refused
        sampler.close()
    with pytest.raises(ProbeError, match="sudo"):
        Sampler.open(shell, facts, soon(), sudo=True)
    tell(debian, "echo 'someone ALL=(root) NOPASSWD: ALL' >/etc/sudoers.d/someone")
    sampler = Sampler.open(shell, facts, soon(), sudo=True)
    reach = Reach(sampler, shell, time_daemon=facts.time_daemon, sudo=True)
    mended = correct(reach, CorrectionPolicy(0.010), soon())
    sampler.close()
    assert (mended.method, mended.refused, mended.doubt) == ("chronyd", None, None)


def test_a_run_puts_a_clock_back_to_what_it_was_and_watches_it(debian, harness):
    """--restore-offset --watch: slow by 2 s before, slow by 2 s after, and it stays so."""
    debian.sampler.step(-2_000_000_000, soon())
    ended = harness("run", "debian-1", "--duration", "0.5", "--restore-offset",
                    "--watch", "2s", "--json")  # fmt: skip
    guest = ended.record["guests"][0]
    verdicts = {check["name"]: check["outcome"] for check in guest["checks"]}
    assert ended.code == 0, [check for check in guest["checks"] if check["outcome"] != "pass"]
    assert (verdicts["clock"], verdicts["watch"]) == ("pass", "pass")
    clock = guest["clock"]
    assert clock["after_correction"]["offset_s"] == pytest.approx(-2.0, abs=0.05)
    assert clock["target_s"] == clock["before"]["offset_s"]
    assert clock["watch"]["witness"]["realtime_went_back"] == 0
    assert clock["methods"][0] == "slew"
    assert clock["guest_agent_agrees"] in (True, None)
    assert guest["stale_clock_window_s"] > 0
