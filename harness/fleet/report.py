"""A rollout as one page, and as one JUnit file whose suites are hosts: from the database alone."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Mapping
from datetime import UTC, datetime

from pydantic import ValidationError

from harness.core.records import Outcome
from harness.fleet.rollouts import Rollout
from harness.fleet.view import HostView, State
from harness.results.answer import Answer
from harness.results.report.junit import add_case, counted, text_of
from harness.results.report.words import measured

#: As a verdict: what is not over is none yet.
VERDICTS: Mapping[State, Outcome] = {
    State.DONE: Outcome.PASS,
    State.FAILED: Outcome.FAIL,
    State.DIED: Outcome.ERROR,
    State.SILENT: Outcome.ERROR,
    State.RUNNING: Outcome.SKIP,
    State.SOAKING: Outcome.SKIP,
    State.WAITING: Outcome.SKIP,
}


def read_answers(texts: Mapping[str, str]) -> dict[str, Answer]:
    """Return hosts' answers; one that this harness cannot read is left out."""
    found = {}
    for host, text in texts.items():
        try:
            found[host] = Answer.model_validate_json(text)
        except ValidationError:
            continue
    return found


def page(rollout: Rollout, answers: Mapping[str, Answer]) -> str:
    """Return the page: waves, hosts, guests, and everything that went wrong."""
    from harness.results.report import html  # of an extra, which the JUnit file does not need

    return (
        html.environment()
        .get_template("rollout.html.j2")
        .render(
            rollout=rollout,
            view=rollout.view,
            answers=answers,
            verdicts=VERDICTS,
            at=_utc(rollout.now_s),
            utc=_utc,
            problems={host.name: _problem(host) for host in rollout.view.hosts if _problem(host)},
        )
    )


def junit(rollout: Rollout, answers: Mapping[str, Answer]) -> str:
    """Return the text of the JUnit file: a host is a suite, a check of a guest a case."""
    root = ET.Element("testsuites", name=text_of(f"harness rollout {rollout.rollout}"))
    suites = [_suite(host, answers.get(host.name), rollout.now_s) for host in rollout.view.hosts]
    for count in ("tests", "failures", "errors"):
        root.set(count, str(sum(int(suite.get(count, "0")) for suite in suites)))
    root.extend(suites)
    ET.indent(root)
    return ET.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def _suite(host: HostView, answer: Answer | None, now_s: float) -> ET.Element:
    part = host.part
    began_s = part.began_s if part is not None else now_s
    suite = ET.Element(
        "testsuite",
        name=text_of(host.name),
        hostname=text_of(host.name),
        timestamp=f"{datetime.fromtimestamp(began_s, UTC):%Y-%m-%dT%H:%M:%S}",
    )
    record = answer.record if answer is not None else None
    for guest in record.guests if record is not None else ():
        for check in guest.checks:
            said = "; ".join(one for one in (measured(check), check.detail) if one)
            add_case(suite, guest.name, check.name, check.outcome, said, "broken promise")
        lines = (*(["STILL PAUSED"] if guest.still_paused else []), *guest.problems)
        whole = Outcome.ERROR if lines else Outcome.PASS
        add_case(suite, guest.name, "maintenance", whole, "; ".join(lines), "problem")
    said = _problem(host) or (f"{host.state}" if host.state is not State.DONE else "")
    verdict = VERDICTS[host.state]
    took_s = part.ended_s - part.began_s if part is not None and part.ended_s is not None else None
    add_case(suite, host.name, "rollout", verdict, said, "problem", took_s)
    return counted(suite, took_s)


def _problem(host: HostView) -> str:
    part = host.part
    if host.state is State.SILENT and part is not None and part.due_s is not None:
        return f"silent since {part.doing}; its next word was due at {_utc(part.due_s)}"
    if part is None or host.state is State.DONE:
        return ""
    return part.message or ""


def _utc(at_s: float | None) -> str:
    return "–" if at_s is None else f"{datetime.fromtimestamp(at_s, UTC):%Y-%m-%d %H:%M:%S} UTC"
