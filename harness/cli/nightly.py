"""A night: look at the box, maintain its guests several times, compare with the nights before.

The first run warms caches up and is not counted. After a run that is not healthy there is no
other: guests that a maintenance did not do well are not maintained again unattended.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from statistics import median
from typing import TYPE_CHECKING, Any

from harness.core.errors import HarnessError, InfrastructureError
from harness.core.extras import require
from harness.core.records import Outcome, RunRecord
from harness.results.folder import RunFolder
from harness.results.history.figures import RUN, figures_of
from harness.results.report.spoken import counted as counted_words
from harness.results.report.spoken import duration, printable

if TYPE_CHECKING:
    from harness.cli.finding import Finding
    from harness.cli.night_files import NightFiles
    from harness.maintenance.run import Finished
    from harness.results.history.verdict import Verdict

Say = Callable[[str], None]
#: From the loudest on; what is not here comes last.
_LOUDEST = (4, 130, 2, 3, 1, 0)


@dataclass(frozen=True)
class Night:
    """What came of it, so far."""

    problems: tuple[str, ...] = ()
    """What doctor found, or what ended the night."""
    warnings: tuple[str, ...] = ()
    runs: tuple[RunRecord, ...] = ()
    folders: tuple[RunFolder, ...] = ()
    verdict: Verdict | None = None
    codes: tuple[int, ...] = ()
    warm: bool = False
    """The first of ``runs`` was the warm-up."""

    def then(self, finished: Finished, warnings: Iterable[str]) -> Night:
        """Return this night with one run more, and what its report and history warn of."""
        error = finished.error
        night = replace(
            self,
            runs=(*self.runs, finished.record),
            folders=(*self.folders, finished.folder),
            warnings=(*self.warnings, *warnings),
            codes=(*self.codes, finished.record.exit_code),
        )
        return night if error is None else night.spoiled(error.exit_code, str(error))

    def spoiled(self, code: int, *problems: str) -> Night:
        """Return this night with problems of it, and the exit code that they mean."""
        return replace(self, problems=(*self.problems, *problems), codes=(*self.codes, code))

    @property
    def exit_code(self) -> int:
        """One for all of it; a night that ran nothing is not a good one."""
        codes = self.codes or (3,)
        return next((code for code in _LOUDEST if code in codes), max(codes))

    @property
    def counted(self) -> tuple[RunRecord, ...]:
        """The runs without the warm-up."""
        return self.runs[1:] if self.warm and len(self.runs) > 1 else self.runs

    def summary(self, host: str) -> str:
        """One line, fit for the subject of a mail."""
        words = {0: "PASS", 1: "FAIL", 4: "STILL PAUSED", 130: "INTERRUPTED"}
        said = f"harness {words.get(self.exit_code, 'ERROR')} on {host}"
        parts = [self._figures()] if self.runs else []
        parts += self.problems[:1]
        if self.verdict is not None:
            worse = [one.sentence() for one in self.verdict.regressions]
            quiet = f"no regression against {self.verdict.nights} nights"
            if not self.verdict.compared:
                quiet = f"{self.verdict.nights} nights to compare with"
            parts.append(f"WORSE {worse[0]}" if worse else quiet)
        return printable(f"{said}: {'; '.join(parts)}")

    def _figures(self) -> str:
        counted = self.counted
        measured: dict[str, list[float]] = {}
        for record in counted:
            for figure in figures_of(record):
                if figure.guest == RUN:
                    measured.setdefault(figure.name, []).append(figure.value)
        shown = [
            f"{words} {duration(median(measured[name]))}"
            for name, words in (("pause_window_s", "paused"), ("residual_s", "residual"))
            if name in measured
        ]
        good = sum(record.outcome is Outcome.PASS for record in counted)
        guests = max(len(record.guests) for record in counted)
        runs = f"{good}/{counted_words(len(counted), 'run')}"
        return ", ".join([f"{runs} of {counted_words(guests, 'guest')} good", *shown])

    def as_data(self, host: str) -> dict[str, Any]:
        """For JSON."""
        return {
            "exit_code": self.exit_code,
            "summary": self.summary(host),
            "problems": self.problems,
            "warnings": self.warnings,
            "run_ids": [record.run_id for record in self.runs],
            "warm_up": self.runs[0].run_id if self.warm and self.runs else None,
            "verdict": self.verdict.as_data() if self.verdict else None,
        }


def spend(
    *,
    findings: Iterable[Finding],
    rehearse: Callable[..., Finished],
    finish: Callable[[RunFolder], list[str]],
    repeat: int,
    say: Say,
) -> Night:
    """Run doctor, then each run with its report and its row in the history. Never raises ours."""
    try:
        problems = _problems(findings)
    except HarnessError as error:
        return Night().spoiled(error.exit_code, str(error))
    if problems:
        return Night().spoiled(3, *problems)
    night = Night(warm=repeat > 1)
    for number in range(1, repeat + 1):
        warm_up = night.warm and number == 1
        say(f"run {number} of {repeat}{' (warm-up)' if warm_up else ''}")
        try:
            finished = rehearse(label="warm-up" if warm_up else "nightly")
        except HarnessError as error:
            return night.spoiled(error.exit_code, str(error))
        night = night.then(finished, finish(finished.folder))
        if finished.error is not None or finished.record.outcome is not Outcome.PASS:
            break
    return night


def _problems(findings: Iterable[Finding]) -> list[str]:
    return [
        f"{finding.name}: {finding.detail}" for finding in findings if finding.level == "problem"
    ]


def look_back(night: Night, *, nights: int, fail_on_regression: bool) -> Night:
    """See that the runs are in the history; return the night, judged by those before.

    A history that fails is a warning.
    """
    if not night.runs:
        return night
    try:
        require("history", "the verdict on the night")
        from harness.results.history.store import History
        from harness.results.history.verdict import judge

        with History.open() as history:
            for folder in night.folders:
                history.add(folder)
            verdict = judge(history, [r.run_id for r in night.counted], nights=nights)
    except HarnessError as error:
        return replace(night, warnings=(*night.warnings, str(error)))
    codes = (*night.codes, 1) if fail_on_regression and verdict.regressions else night.codes
    return replace(night, verdict=verdict, codes=codes)


def publish(night: Night, files: NightFiles) -> Night:
    """Replace the files where a collector or a CI server looks; return the night.

    What cannot be written is a problem of the night: what is there is not of tonight.
    """
    if not night.runs:
        failed = files.refuse("; ".join(night.problems), night.exit_code)
    else:
        worse = [one.figure for one in night.verdict.regressions] if night.verdict else None
        failed = files.publish(_shown(night), night.exit_code, worse)
    return night.spoiled(InfrastructureError.exit_code, *failed) if failed else night


def _shown(night: Night) -> RunRecord:
    """Return the run to show where there is room for one: one that is not good, else the newest.

    If the night is not good though all its runs are, because the next one could not begin or a
    figure got worse, it is shown with that as its problem.
    """
    bad = [record for record in night.runs if record.outcome is not Outcome.PASS]
    if bad or night.exit_code == 0:
        return bad[-1] if bad else night.runs[-1]
    worse = [one.sentence() for one in night.verdict.regressions] if night.verdict else []
    return night.runs[-1].model_copy(
        update={
            "outcome": Outcome.ERROR if night.problems else Outcome.FAIL,
            "exit_code": night.exit_code,
            "problems": (*night.problems, *worse),
        }
    )
