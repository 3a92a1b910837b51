"""Every kind of guest, pause and clock that is wrong: is it measured and mended?

    scripts/in-namespace .venv/bin/python -P -m benchmarks.clock_matrix [--pauses 1,5,20] [--write]

Two Debian guests, one with an RTC that goes on through a pause and one with an RTC that does not,
are paused again and again: by each interpreter, with each time daemon, from each wrong clock.
After every correction the clock is read once more by another program over another channel.
``--write`` puts the table into docs/reference/clocks.md.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product

from benchmarks import document
from harness.clock.correction import correct
from harness.clock.policy import CorrectionPolicy
from harness.core.config import load
from harness.core.fanout import fan_out
from harness.core.timebase import NS_PER_S, SYSTEM_CLOCK, Deadline
from harness.guest.connector import SshConnector
from harness.host.driver import LibvirtHypervisor
from harness.lab import guests as labs
from harness.lab.specs import GuestSpec
from harness.lab.state import LabState
from harness.maintenance.guest_access import Login
from harness.maintenance.session import GuestSession
from harness.updates.registry import FULL_CONFIG

INTERPRETERS = ("python3", "perl", "sh")
#: The daemon's unit, under the name that it has in the table.
DAEMONS = {"none": None, "chronyd": "chrony", "timesyncd": "systemd-timesyncd"}
TRACKS = ("wall", "guest")
OFFSETS_S = (0.0, -3.0, 3.0, 3600.0)
PAUSES_S = (1.0, 5.0, 20.0)
#: More than this is no lag that the pause explains.
LAG_TOLERANCE_S = 0.25


@dataclass(frozen=True)
class Case:
    """One cell of the matrix."""

    daemon: str
    interpreter: str
    pause_s: float
    offset_s: float


@dataclass(frozen=True)
class Result:
    """What came of it; seconds."""

    case: Case
    track: str
    lag_error_s: float
    rtc_lag_s: float
    residual_s: float
    uncertainty_s: float
    stale_s: float
    method: str
    contradicted: bool
    """The independent reading's interval does not meet ours."""
    problem: str

    @property
    def passed(self) -> bool:
        """Measured as it must be, and mended."""
        right = abs(self.lag_error_s) <= LAG_TOLERANCE_S and not self.contradicted
        return right and not self.problem


class Guest:
    """One guest of the matrix; every login by itself, as its time daemon comes and goes."""

    def __init__(self, lab: LabState, host: LibvirtHypervisor, name: str, track: str) -> None:
        self.track = track
        self._lab = lab
        self._host = host
        self._name = name
        self._daemon = "chronyd"
        self._sessions: dict[str, GuestSession] = {}

    def session(self, interpreter: str) -> GuestSession:
        """An open login whose clock agent runs in this interpreter."""
        if interpreter not in self._sessions:
            flags = {"clock.interpreters": [interpreter]}
            config = load(
                self._lab.config_file, environment={}, flags=flags, model=FULL_CONFIG
            ).config
            deadline = Deadline.after(60)
            info = self._host.find(self._name, deadline)
            section = config.for_guest(info.name, info.uuid)
            login = Login(info, section, config.ssh, self._host, SshConnector())
            self._sessions[interpreter] = GuestSession.open(login, config.clock, deadline)
        return self._sessions[interpreter]

    def choose(self, daemon: str) -> None:
        """Let this time daemon run in the guest, and no other."""
        if daemon == self._daemon:
            return
        unit = DAEMONS[daemon]
        change = f"systemctl start {unit}" if unit else "true"
        stop = " ".join(one for one in DAEMONS.values() if one and one != unit)
        shell = self.session("python3").shell
        shell.run(f"systemctl stop {stop}; {change}", Deadline.after(60))
        self._daemon = daemon
        self.close()  # what is known about the guest has changed

    def close(self) -> None:
        """Log out."""
        for session in self._sessions.values():
            session.close()
        self._sessions = {}

    def attempt(self, case: Case) -> Result:
        """Set the clock wrong, pause, resume, mend; all of it measured."""
        self.choose(case.daemon)
        session = self.session(case.interpreter)
        other = self.session("perl" if case.interpreter != "perl" else "python3")
        stepper = self.session("python3").sampler
        policy = CorrectionPolicy(session.tolerance_s, allow_backward=True)
        deadline = Deadline.after(120 + case.pause_s)
        start = stepper.read(8, deadline)
        stepper.step(round((case.offset_s - start.offset_s) * NS_PER_S), deadline)
        rtc_before_s = session.sampler.rtc_s(deadline) or 0.0
        before = session.sampler.read_well(8, 0.005, deadline)
        paused_s, resumed_ns = self._pause(case.pause_s, deadline)
        behind = session.sampler.read(8, deadline)
        mended = correct(session.reach, policy, deadline, behind)
        again = other.sampler.read_well(8, 0.005, deadline)
        rtc_after_s = session.sampler.rtc_s(deadline) or 0.0
        apart_s = abs(again.offset_s - mended.after.offset_s)
        verified_ns = mended.verified_ns or SYSTEM_CLOCK.monotonic_ns()
        return Result(
            case=case,
            track=self.track,
            lag_error_s=behind.offset_s - before.offset_s + paused_s,
            rtc_lag_s=rtc_after_s - rtc_before_s,
            residual_s=mended.after.offset_s,
            uncertainty_s=mended.after.uncertainty_s,
            stale_s=(verified_ns - resumed_ns) / NS_PER_S,
            method=mended.method or "–",
            contradicted=apart_s > again.uncertainty_s + mended.after.uncertainty_s,
            problem=mended.refused or mended.doubt or "",
        )

    def _pause(self, seconds: float, deadline: Deadline) -> tuple[float, int]:
        uuid = self.session("python3").info.uuid
        began_ns = SYSTEM_CLOCK.monotonic_ns()
        self._host.pause(uuid, deadline)
        SYSTEM_CLOCK.sleep(seconds)
        self._host.resume(uuid, deadline)
        resumed_ns = SYSTEM_CLOCK.monotonic_ns()
        return (resumed_ns - began_ns) / NS_PER_S, resumed_ns


def cases(pauses_s: Sequence[float] = PAUSES_S) -> list[Case]:
    """All of them, in an order in which daemons are changed seldom."""
    found = product(DAEMONS, INTERPRETERS, pauses_s, OFFSETS_S)
    return [Case(*values) for values in found]


def representative() -> list[Case]:
    """Every value of every parameter at least once, in less than a minute."""
    return [
        Case("chronyd", "python3", 1.0, -3.0),
        Case("chronyd", "sh", 1.0, 3600.0),
        Case("timesyncd", "perl", 5.0, 3.0),
        Case("none", "sh", 1.0, 0.0),
        Case("none", "python3", 1.0, 3600.0),
    ]


def run(
    guests: Sequence[Guest], wanted: Iterable[Case], say: Callable[[str], None]
) -> list[Result]:
    """Every case on every guest; the guests at once, each in its own thread."""
    found: list[Result] = []
    for case in wanted:
        deadline = Deadline.after(200 + case.pause_s)
        calls = {guest.track: partial(guest.attempt, case) for guest in guests}
        for answer in fan_out(calls, deadline, what=f"{case}").values():
            result = answer.get()
            found.append(result)
            if not result.passed:
                say(f"NOT PASSED: {result}")
        say(f"{len(found)} done: {case}")
    return found


def summary(results: Sequence[Result]) -> str:
    """A row for every interpreter, daemon and pause, over RTC tracks and offsets."""
    groups: dict[tuple[str, str, float], list[Result]] = {}
    for one in results:
        key = (one.case.interpreter, one.case.daemon, one.case.pause_s)
        groups.setdefault(key, []).append(one)
    rows = []
    for (interpreter, daemon, pause_s), group in sorted(
        groups.items(), key=lambda item: (INTERPRETERS.index(item[0][0]), item[0][1], item[0][2])
    ):
        residuals = [abs(one.residual_s) for one in group]
        passed = sum(one.passed for one in group)
        rows.append(
            [
                interpreter,
                daemon,
                f"{pause_s:g} s",
                f"{passed} of {len(group)}",
                ", ".join(sorted({one.method for one in group})),
                _ms(abs(one.lag_error_s) for one in group),
                f"{1000 * statistics.median(residuals):.2f} ({1000 * max(residuals):.2f}) ms",
                _ms(one.uncertainty_s for one in group),
                _ms(one.stale_s for one in group),
            ]
        )
    header = ["interpreter", "daemon", "pause", "passed", "method", "lag − pause", "residual"]
    return document.table([*header, "uncertainty", "stale for"], rows)


def _ms(seconds: Iterable[float]) -> str:
    values = sorted(1000 * one for one in seconds)
    return f"{statistics.median(values):.1f} ({values[-1]:.1f}) ms"


def rtc_summary(results: Sequence[Result]) -> str:
    """What the pause did to the RTC, which is set by nobody here."""
    said = []
    for track in TRACKS:
        mine = [one for one in results if one.track == track]
        follows = [abs(one.rtc_lag_s + one.case.pause_s) < abs(one.rtc_lag_s) for one in mine]
        lagged = f"{sum(follows)} of {len(mine)}"
        said.append(f"RTC track `{track}`: the RTC was behind by the pause in {lagged} cases")
    return "; ".join(said) + "."


def with_guests(work: Callable[[Sequence[Guest]], list[Result]]) -> list[Result]:
    """Boot the two guests, work, take them down."""
    with tempfile.TemporaryDirectory(prefix="harness-matrix-") as folder:
        os.environ["HARNESS_STATE_DIR"] = folder
        specs = [GuestSpec(f"matrix-{track}", "debian", rtc_track=track) for track in TRACKS]
        lab = labs.up(specs, deadline=Deadline.after(240), progress=print)
        try:
            host = LibvirtHypervisor.open(lab.uri, Deadline.after(10))
            guests = [Guest(lab, host, f"matrix-{track}", track) for track in TRACKS]
            return work(guests)
        finally:
            labs.down(print)


def main() -> None:
    """Exit 1 if a case was not passed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pauses", default="1,5,20", help="seconds, with commas")
    parser.add_argument("--write", action="store_true", help="into docs/reference/clocks.md")
    options = parser.parse_args()
    pauses_s = [float(word) for word in options.pauses.split(",")]
    say = partial(print, flush=True)
    results = with_guests(lambda guests: run(guests, cases(pauses_s), say))
    passed = sum(result.passed for result in results)
    text = "\n\n".join(
        [
            f"`python -P -m benchmarks.clock_matrix --pauses {options.pauses}` on "
            f"{document.machine()}, TCG: {passed} of {len(results)} passed. Median (worst) over "
            "both RTC tracks and the offsets 0, −3 s, +3 s, +1 h.",
            summary(results),
            rtc_summary(results),
        ]
    )
    print(text)
    if options.write:
        document.write(document.DOCS / "reference" / "clocks.md", "matrix", text)
    sys.exit(0 if passed == len(results) else 1)


if __name__ == "__main__":
    main()
