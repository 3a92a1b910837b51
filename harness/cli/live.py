"""What a person sees on a terminal while a run goes on: a live table."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console, Group
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from harness.core.timebase import Stopwatch
from harness.maintenance.plan import Plan
from harness.maintenance.progress import Meanwhile, Observer, Phase, Step
from harness.results.report.words import printable

_STYLES = {
    Phase.PREPARING: "cyan",
    Phase.READY: "cyan",
    Phase.WAITING: "cyan",
    Phase.PAUSED: "bold magenta",
    Phase.CORRECTING: "yellow",
    Phase.CORRECTED: "green",
    Phase.CHECKED: "green",
    Phase.LEFT_ALONE: "dim",
}


#: What these say is a guest's own.
_RESULTS = (Phase.CORRECTED, Phase.CHECKED)
_BAR_CELLS = 40
#: Of the update's output, so much of its end is looked at.
_TAIL_BYTES = 4096


@contextmanager
def watching(plan: Plan, budget_s: float, reserve_s: float, console: Console) -> Iterator[Observer]:
    """An observer for one run that draws on ``console``, a terminal (stderr).

    ``reserve_s``: the part of the budget that is kept for resuming.
    """
    view = LiveView(plan, budget_s, reserve_s)
    live = Live(view, console=console, refresh_per_second=8, transient=True)
    with _whatever_happens():
        live.start()

    def observe(step: Step) -> None:
        if step.phase is Phase.NOTE:  # what is drawn leaves no trace, and this has to be read
            console.print(Text(printable(step.text)), soft_wrap=True)
        else:
            view.observe(step)

    try:
        yield observe
    finally:
        with _whatever_happens():
            live.stop()


@contextmanager
def waiting(what: str, console: Console) -> Iterator[None]:
    """Show ``what`` goes on and for how long, until the end of the ``with``; then no trace."""
    live = Live(_Waiting(what), console=console, refresh_per_second=8, transient=True)
    with _whatever_happens():
        live.start()
    try:
        yield
    finally:
        with _whatever_happens():
            live.stop()


class _Waiting:
    """One line that moves."""

    def __init__(self, what: str) -> None:
        self._what, self._running, self._spinner = what, Stopwatch(), Spinner("dots")

    def __rich__(self) -> Spinner:
        said = printable(f"{self._what}  {self._running.elapsed_s():.0f} s")
        self._spinner.update(text=Text(said, overflow="ellipsis", no_wrap=True))
        return self._spinner


@contextmanager
def _whatever_happens() -> Iterator[None]:
    """Draw, or do not: a terminal that is gone, or a person's Ctrl-C by now, changes nothing."""
    try:
        yield
    except BaseException as error:
        logging.getLogger(__name__).debug("the live view failed", exc_info=error)


def _last_line(file: Path) -> str:
    """Return the last line of a file that says anything; "" if there is none."""
    try:
        with open(file, "rb") as source:
            source.seek(max(0, source.seek(0, os.SEEK_END) - _TAIL_BYTES))
            tail = source.read()
    except OSError:
        return ""
    # A progress bar begins its line again and again.
    lines = tail.decode(errors="replace").replace("\r", "\n").split("\n")
    return next((line.strip() for line in reversed(lines) if line.strip()), "")


class LiveView:
    """Redrawn by rich several times a second; a step only changes what is drawn next."""

    def __init__(self, plan: Plan, budget_s: float, reserve_s: float) -> None:
        self._budget_s, self._reserve_s = budget_s, reserve_s
        self._domains = [domain.name for domain in plan.domains]
        self._rows = {
            guest.name: (domain.name, Phase.WAITING, "")
            for domain in plan.domains
            for guest in domain.guests
        }
        self._now = Step(Phase.PREPARING, "starting")
        self._running = Stopwatch()
        self._paused: Stopwatch | None = None
        self._meanwhile: Meanwhile | None = None
        self._spinner = Spinner("dots")

    def observe(self, step: Step) -> None:
        """Take note of one step."""
        self._paused = Stopwatch() if step.phase is Phase.PAUSED else None
        self._meanwhile = step.meanwhile or self._meanwhile
        if step.phase is not Phase.CORRECTED:  # of one guest, while the others go on
            self._now = step
        for name in step.guests:
            self._rows[name] = (self._rows[name][0], step.phase, step.text)

    def __rich__(self) -> Group:
        """Return the picture of this instant."""
        table = Table(box=None, pad_edge=False, header_style="bold")
        for column in ("update domain", "guest", "phase", ""):
            table.add_column(column)
        for name, (domain, phase, text) in self._rows.items():
            style = _STYLES.get(phase, "")
            shown = text if phase in _RESULTS else ""  # the headline shows what goes on
            table.add_row(
                printable(domain), Text(printable(name)), Text(phase, style), Text(printable(shown))
            )
        return Group(self._headline(), table, *self._pause())

    def _headline(self) -> Spinner:
        """Return what goes on; it moves from the first second."""
        where = ""
        if self._now.domain in self._domains:
            number = self._domains.index(self._now.domain) + 1
            where = f"update domain {number} of {len(self._domains)}: "
        said = printable(f"{where}{self._what()}  {self._running.elapsed_s():.0f} s")
        self._spinner.update(text=Text(said, overflow="ellipsis", no_wrap=True))
        return self._spinner

    def _what(self) -> str:
        signal_name = self._meanwhile.interrupted_by() if self._meanwhile is not None else None
        if signal_name is None:
            return self._now.text
        if self._paused is not None:
            return f"{signal_name}: giving the update up, resuming guests"
        return f"{signal_name}: {self._now.text}"

    def _pause(self) -> Iterator[Text]:
        """Yield how much of the budget is used, and the last line of the update's output."""
        if self._paused is None:
            return
        yield self._budget_bar(self._paused.elapsed_s())
        if self._meanwhile is not None and (said := _last_line(self._meanwhile.output)):
            yield Text(printable(said), "dim", overflow="ellipsis", no_wrap=True)

    def _budget_bar(self, elapsed_s: float) -> Text:
        per_cell_s = self._budget_s / _BAR_CELLS
        done = min(_BAR_CELLS, int(elapsed_s / per_cell_s))
        spare = min(_BAR_CELLS - done, max(1, round(self._reserve_s / per_cell_s)))
        late = elapsed_s > self._budget_s - self._reserve_s
        return Text.assemble(
            ("paused ", "bold magenta"),
            ("━" * done, "red" if late else "magenta"),
            ("━" * (_BAR_CELLS - done - spare), "dim"),
            ("┄" * spare, "yellow"),
            f" {elapsed_s:4.1f} s of {self._budget_s:g} s, "
            f"the last {self._reserve_s:g} s for resuming",
        )
