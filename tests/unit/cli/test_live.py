"""What a person sees while a run goes on."""

from __future__ import annotations

import io
import re

from rich.console import Console

from harness.cli.live import LiveView, waiting
from harness.core.records import Outcome
from harness.maintenance.plan import Plan, PlannedGuest, UpdateDomain
from harness.maintenance.progress import Meanwhile, Phase, Step
from harness.results.report.words import in_short
from harness.testing.runs import a_guest


class Named:
    """Of a plan, what the view looks at."""

    def __init__(self, name: str) -> None:
        self.name = name


def seen(*steps: Step) -> str:
    """Return the picture after these steps, as plain text."""
    domains = [("0", "web1"), ("1", "web2")]
    plan = Plan(tuple(UpdateDomain(name, (_guest(guest),)) for name, guest in domains))
    view = LiveView(plan, 30.0, 2.0)
    for step in steps:
        view.observe(step)
    out = io.StringIO()
    Console(file=out, force_terminal=True, width=100, color_system=None).print(view)
    return re.sub(r"\x1b\[[0-9;]*m", "", out.getvalue())


def _guest(name: str) -> PlannedGuest:
    guest: PlannedGuest = Named(name)  # type: ignore[assignment]
    return guest


def test_it_says_from_the_first_second_that_it_works():
    """A spinner, what it does, for how long."""
    first = seen().splitlines()[0]
    assert re.search(r"starting  0 s", first)
    assert not first.startswith("starting")


def test_it_says_which_update_domain_of_how_many():
    step = Step(Phase.PAUSED, "paused; applying the update", "1", ("web2",))
    assert "update domain 2 of 2: paused; applying the update" in seen(step)


def test_the_bar_marks_what_is_kept_for_resuming():
    """Two seconds of thirty are three cells of forty."""
    text = seen(Step(Phase.PAUSED, "paused", "0", ("web1",)))
    assert "0.0 s of 30 s, the last 2 s for resuming" in text
    assert text.count("┄") == 3
    assert "━" not in seen(Step(Phase.CORRECTING, "correcting", "0", ("web1",)))


def test_the_last_line_of_the_updates_output_is_seen_while_guests_are_paused(tmp_path):
    """Of a progress bar the newest state; with what would move the cursor made visible."""
    output = tmp_path / "update-0.log"
    paused = Step(Phase.PAUSED, "paused", "0", ("web1",), Meanwhile(output, lambda: None))
    assert "42" not in seen(paused)
    output.write_bytes(b"x" * 9999 + b"\nfirst\n10 %\r42 % \x1b[2J\xff\n\n  \n")
    assert seen(paused).splitlines()[-1].strip() == "42 % \\x1b[2J\ufffd"
    assert "42" not in seen(paused, Step(Phase.CORRECTING, "correcting", "0", ("web1",)))


def test_it_says_that_it_was_asked_to_stop_and_what_it_does_about_it(tmp_path):
    """While guests are paused no step is told."""
    meanwhile = Meanwhile(tmp_path / "none", lambda: "SIGINT")
    paused = Step(Phase.PAUSED, "paused", "0", ("web1",), meanwhile)
    assert "1 of 2: SIGINT: giving the update up, resuming guests" in seen(paused)
    after = Step(Phase.CORRECTING, "resumed; correcting clocks", "0", ("web1",))
    assert "1 of 2: SIGINT: resumed; correcting clocks" in seen(paused, after)


def test_a_guest_that_is_done_shows_its_result():
    """What was the point of it: the pause and the clock."""
    done = in_short(a_guest("web1"))
    assert done == "pass: paused 5.012 s, clock 200 µs fast ± 1.1 ms"
    text = seen(Step(Phase.CHECKED, done, "0", ("web1",)), Step(Phase.PAUSED, "p", "1", ("web2",)))
    [row] = [line for line in text.splitlines() if "web1" in line]
    assert done in row
    assert in_short(a_guest(outcome=Outcome.FAIL)).startswith("fail")


def test_a_guest_whose_clock_is_right_shows_it_while_others_are_corrected():
    """The headline stays what goes on for all of them."""
    both = Step(Phase.CORRECTING, "resumed; correcting clocks", "0", ("web1", "web2"))
    one = Step(Phase.CORRECTED, "clock 200 µs fast; being checked", "0", ("web1",))
    headline, _, first, second = seen(both, one).splitlines()[:4]
    assert "1 of 2: resumed; correcting clocks" in headline
    assert "corrected" in first
    assert "clock 200 µs fast; being checked" in first
    assert "200 µs" not in second


def test_what_is_looked_at_before_there_is_a_plan_moves_and_leaves_no_trace():
    """On a terminal: what goes on, for how long; then the line is erased."""
    out = io.StringIO()
    with waiting("looking at qemu:///system", Console(file=out, force_terminal=True, width=80)):
        pass
    assert re.search(r"looking at qemu:///system  \d+ s", out.getvalue())
    assert out.getvalue().endswith("\x1b[2K")
