"""Is tonight worse than the nights before? Median against median, by robust statistics.

A night's figure is the median over its runs. Of the last *k* comparable nights the median and the
MAD (median absolute deviation) are taken; 1.4826 · MAD estimates a standard deviation without being
moved by a few bad nights. Tonight is a regression if it is above the median by more than the
largest of

- 4 such deviations (noise),
- 10 % of the median (relative effect),
- the least change of that figure that matters at all (absolute effect, ``figures.KINDS``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime, time, timedelta
from statistics import median
from typing import TYPE_CHECKING, Any

from harness.core.errors import UsageError
from harness.results.history.figures import KINDS, RUN

if TYPE_CHECKING:
    from harness.results.history.store import History, Run

#: With fewer nights to compare with, there is no verdict.
ENOUGH_NIGHTS = 5
NIGHTS = 14
_DEVIATIONS = 4.0
_RELATIVE = 0.10
_MAD_TO_SIGMA = 1.4826


@dataclass(frozen=True)
class Comparison:
    """One figure of tonight against the nights before."""

    figure: str
    unit: str
    tonight: float
    usual: float
    """The median of the nights before."""
    allowed: float
    """Above this it is a regression."""
    nights: int

    @property
    def worse(self) -> bool:
        """Whether it is a regression."""
        return self.tonight > self.allowed

    def sentence(self) -> str:
        """``overhead_s: 0.0312 s, usually 0.0111 s (+181 %, allowed up to 0.0211 s)``."""
        more = f"{100 * (self.tonight / self.usual - 1):+.0f} %, " if self.usual else ""
        return (
            f"{self.figure}: {self.tonight:.4g} {self.unit}, usually {self.usual:.4g} {self.unit} "
            f"({more}allowed up to {self.allowed:.4g} {self.unit})"
        )


@dataclass(frozen=True)
class Verdict:
    """Tonight's figures, judged; without enough nights to compare with, ``compared`` is empty."""

    run_ids: tuple[str, ...]
    nights: int
    compared: tuple[Comparison, ...]

    @property
    def regressions(self) -> tuple[Comparison, ...]:
        """The figures that got worse."""
        return tuple(one for one in self.compared if one.worse)

    def as_data(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "run_ids": list(self.run_ids),
            "nights": self.nights,
            "enough_nights": self.nights >= ENOUGH_NIGHTS,
            "regression": bool(self.regressions),
            "figures": [{**asdict(one), "worse": one.worse} for one in self.compared],
        }


def allowed(values: Sequence[float], matters: float) -> float:
    """Above this, a value is worse than ``values``: see the module."""
    usual = median(values)
    deviation = _MAD_TO_SIGMA * median(abs(value - usual) for value in values)
    return usual + max(_DEVIATIONS * deviation, _RELATIVE * abs(usual), matters)


def compare(
    tonight: Mapping[str, Sequence[float]], nights: Sequence[Mapping[str, Sequence[float]]]
) -> list[Comparison]:
    """Judge every known figure that tonight and enough of the nights have."""
    found = []
    for name, kind in KINDS.items():
        before = [median(night[name]) for night in nights if night.get(name)]
        if not tonight.get(name) or len(before) < ENOUGH_NIGHTS:
            continue
        limit = allowed(before, kind.matters)
        now = median(tonight[name])
        found.append(Comparison(name, kind.unit, now, median(before), limit, len(before)))
    return found


def night_of(run: Run) -> date:
    """From noon to noon, UTC: a night that spans midnight is one."""
    return (run.started_at - timedelta(hours=12)).date()


def judge(history: History, run_ids: Sequence[str] = (), *, nights: int = NIGHTS) -> Verdict:
    """Judge these runs (default: the newest night's) against the ``nights`` comparable ones before.

    Comparable: same host, accelerator and kind of update, and as many guests; no warm-ups, no
    experiments. Raises UsageError for an unknown run.
    """
    chosen = [history.find(run_id) for run_id in run_ids] or _newest_night(history)
    first = min(chosen, key=lambda run: run.started_at)
    before: dict[date, list[str]] = {}
    for run in history.alike(first, before=_begin(night_of(first))):
        if night_of(run) not in before and len(before) == nights:
            break
        before.setdefault(night_of(run), []).append(run.run_id)
    last = sorted(before, reverse=True)
    ids = [run.run_id for run in chosen]
    measured = _measured(history, [*ids, *(run_id for night in last for run_id in before[night])])
    compared = compare(_together(ids, measured), [_together(before[n], measured) for n in last])
    return Verdict(tuple(ids), len(last), tuple(compared))


def _begin(night: date) -> datetime:
    return datetime.combine(night, time(12), UTC)


def _newest_night(history: History) -> list[Run]:
    """Return the runs of the newest one's night that are like it. Raises UsageError for none."""
    newest = history.newest(limit=1, apart=False)
    if not newest:
        raise UsageError("no run yet in the history", hint="harness run, or harness history import")
    tonight = history.newest(since=_begin(night_of(newest[0])), apart=False)
    return [run for run in tonight if _alike(run, newest[0])]


def _alike(run: Run, other: Run) -> bool:
    return (run.host, run.accelerator, run.update_kind, run.guests) == (
        other.host,
        other.accelerator,
        other.update_kind,
        other.guests,
    )


def _measured(history: History, run_ids: Sequence[str]) -> dict[str, dict[str, float]]:
    found: dict[str, dict[str, float]] = {run_id: {} for run_id in run_ids}
    for row in history.figures(run_ids, guest=RUN):
        found[row["run_id"]][row["name"]] = row["value"]
    return found


def _together(
    run_ids: Sequence[str], measured: Mapping[str, Mapping[str, float]]
) -> dict[str, list[float]]:
    together: dict[str, list[float]] = {}
    for run_id in run_ids:
        for name, value in measured[run_id].items():
            together.setdefault(name, []).append(value)
    return together
