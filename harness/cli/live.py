"""What a person sees while a run goes on: a live table on a terminal, plain lines elsewhere."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from harness.core.timebase import Stopwatch, utc_now
from harness.maintenance.plan import Plan
from harness.maintenance.progress import Observer, Phase, Step
from harness.results.report.words import printable

_STYLES = {
    Phase.PREPARING: "cyan",
    Phase.READY: "cyan",
    Phase.WAITING: "cyan",
    Phase.PAUSED: "bold magenta",
    Phase.CORRECTING: "yellow",
    Phase.CHECKED: "green",
    Phase.LEFT_ALONE: "dim",
}


@contextmanager
def watching(plan: Plan, budget_s: float, console: Console) -> Iterator[Observer]:
    """An observer for one run that writes to ``console`` (stderr)."""
    if not console.is_terminal:
        yield _lines(console)
        return
    view = _LiveView(plan, budget_s)
    live = Live(view, console=console, refresh_per_second=8, transient=True)
    with _whatever_happens():
        live.start()
    try:
        yield view.observe
    finally:
        with _whatever_happens():
            live.stop()


@contextmanager
def _whatever_happens() -> Iterator[None]:
    """Draw, or do not: a terminal that is gone, or a person's Ctrl-C by now, changes nothing."""
    try:
        yield
    except BaseException as error:
        logging.getLogger(__name__).debug("the live view failed", exc_info=error)


def _lines(console: Console) -> Observer:
    def observe(step: Step) -> None:
        where = f"update domain {step.domain}: " if step.domain is not None else ""
        who = f" [{', '.join(step.guests)}]" if step.guests else ""
        line = printable(f"{utc_now():%H:%M:%S}  {where}{step.text}{who}")
        console.print(Text(line), soft_wrap=True)

    return observe


class _LiveView:
    """Redrawn by rich several times a second; a step only changes what is drawn next."""

    def __init__(self, plan: Plan, budget_s: float) -> None:
        self._budget_s = budget_s
        self._rows = {
            guest.name: (domain.name, Phase.PREPARING, "waiting")
            for domain in plan.domains
            for guest in domain.guests
        }
        self._paused: Stopwatch | None = None

    def observe(self, step: Step) -> None:
        """Take note of one step."""
        self._paused = Stopwatch() if step.phase is Phase.PAUSED else None
        for name in step.guests:
            self._rows[name] = (self._rows[name][0], step.phase, step.text)

    def __rich__(self) -> Group:
        table = Table(box=None, pad_edge=False, header_style="bold")
        for column in ("update domain", "guest", "phase", ""):
            table.add_column(column)
        for name, (domain, phase, text) in self._rows.items():
            style = _STYLES.get(phase, "")
            table.add_row(
                printable(domain), Text(printable(name)), Text(phase, style), Text(printable(text))
            )
        return Group(table, self._budget_bar())

    def _budget_bar(self) -> Table | Text:
        if self._paused is None:
            return Text("")
        elapsed_s = self._paused.elapsed_s()
        bar = Table.grid(padding=(0, 1))
        bar.add_row(
            Text("paused", "bold magenta"),
            ProgressBar(total=self._budget_s, completed=elapsed_s, width=40),
            Text(f"{elapsed_s:4.1f} s of {self._budget_s:g} s"),
        )
        return bar
