"""``junit.xml``: a guest is a suite, a check is a case; what every CI server can show.

A broken promise is a ``failure``, what could not be judged an ``error``, what was not asked for is
``skipped``. Measured values are properties of the suite and text of the case, because the common
schema has no properties of a case. The file is there from a run's first second; a guest that has
not been judged yet is an error, so what a killed run leaves is valid, and red.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from datetime import UTC

from harness.core.files import write_atomically
from harness.core.records import CheckRecord, GuestRecord, Outcome, RunRecord
from harness.results.folder import RunFolder
from harness.results.report.words import measured, printable

FILE_NAME = "junit.xml"
#: For what concerns a guest, or the run, as a whole.
WHOLE = "maintenance"
_UNFINISHED = "the run has not finished: its process goes on, or died (harness recover)"
_ELEMENTS = {Outcome.FAIL: "failure", Outcome.ERROR: "error", Outcome.SKIP: "skipped"}
#: What XML 1.0 cannot hold and ``printable`` leaves, because it is no control character.
_NOT_XML = re.compile("[\ufffe\uffff]")


def keep(folder: RunFolder, record: RunRecord, planned: Sequence[str] = ()) -> None:
    """Write the file for what is known by now. Raises InfrastructureError.

    ``planned``: the names of all guests of the run; those that the record lacks are pending.
    """
    write_atomically(folder.path / FILE_NAME, document(record, planned))


def document(record: RunRecord, planned: Sequence[str] = ()) -> str:
    """The text of ``junit.xml``."""
    suites = [_guest(guest, record) for guest in record.guests]
    known = {guest.name for guest in record.guests}
    suites += [_pending(name, record) for name in planned if name not in known]
    suites.append(_run(record))
    root = ET.Element("testsuites", name=text_of(f"harness {record.run_id}"))
    for count in ("tests", "failures", "errors"):
        root.set(count, str(sum(int(suite.get(count, "0")) for suite in suites)))
    root.set("time", _seconds(_took_s(record)))
    root.extend(suites)
    ET.indent(root)
    return ET.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def _guest(guest: GuestRecord, record: RunRecord) -> ET.Element:
    suite = _suite(guest.name, record, _figures(guest))
    for check in guest.checks:
        add_case(suite, guest.name, check.name, check.outcome, _said(check), "broken promise")
    whole = Outcome.ERROR if guest.problems or guest.still_paused else Outcome.PASS
    if not guest.checks and guest.outcome is Outcome.SKIP:
        whole = Outcome.SKIP
    lines = list(guest.problems)
    if guest.still_paused:
        lines.insert(0, "STILL PAUSED")
    add_case(suite, guest.name, WHOLE, whole, "; ".join(lines), "problem", guest.pause_window_s)
    return counted(suite, guest.pause_window_s)


def _pending(name: str, record: RunRecord) -> ET.Element:
    suite = _suite(name, record, [])
    add_case(suite, name, WHOLE, Outcome.ERROR, _why_missing(record), "not judged")
    return counted(suite, None)


def _why_missing(record: RunRecord) -> str:
    if record.finished_at is None:
        return _UNFINISHED
    return "; ".join(record.problems) or "this guest was not judged"


def _run(record: RunRecord) -> ET.Element:
    """One suite for what concerns the whole run: its update domains, and how it ended."""
    facts = [(key, str(value)) for key, value in record.host.model_dump().items()]
    facts += [("budget_s", f"{record.budget_s:g}"), ("exit_code", str(record.exit_code))]
    suite = _suite("harness", record, facts)
    for domain in record.update_domains:
        name = f"update domain {domain.name}"
        outcome = Outcome.PASS
        if domain.problems or domain.outcome is Outcome.SKIP:
            outcome = domain.outcome
        said = "; ".join(domain.problems)
        add_case(suite, "harness", name, outcome, said, "problem", domain.pause_window_s)
    ended = Outcome.ERROR if record.problems or record.finished_at is None else Outcome.PASS
    said = "; ".join(record.problems)
    add_case(suite, "harness", "run", ended, said, "problem", _took_s(record))
    return counted(suite, _took_s(record))


def _suite(name: str, record: RunRecord, figures: Sequence[tuple[str, str]]) -> ET.Element:
    suite = ET.Element(
        "testsuite",
        name=text_of(name),
        timestamp=f"{record.started_at.astimezone(UTC):%Y-%m-%dT%H:%M:%S}",
        hostname=text_of(record.host.hostname),
    )
    if figures:
        properties = ET.SubElement(suite, "properties")
        for key, value in figures:
            ET.SubElement(properties, "property", name=text_of(key), value=text_of(value))
    return suite


def _figures(guest: GuestRecord) -> list[tuple[str, str]]:
    found: list[tuple[str, object]] = [
        ("accelerator", guest.accelerator),
        ("pause_window_s", guest.pause_window_s),
        ("pause_inner_s", guest.pause_inner_s),
        ("stale_clock_window_s", guest.stale_clock_window_s),
        ("monotonic_deficit_s", guest.clock.monotonic_deficit_s),
    ]
    for when in ("before", "after_resume", "after_correction"):
        reading = getattr(guest.clock, when)
        if reading is not None:
            found.append((f"clock.{when}.offset_s", reading.offset_s))
            found.append((f"clock.{when}.uncertainty_s", reading.uncertainty_s))
    for check in guest.checks:
        found.append((f"{check.name}.measured", check.measured))
        found.append((f"{check.name}.allowed", check.allowed))
        found.append((f"{check.name}.unit", check.unit))
    return [(key, str(value)) for key, value in found if value is not None]


def _said(check: CheckRecord) -> str:
    return "; ".join(part for part in (measured(check), check.detail) if part)


def add_case(
    suite: ET.Element,
    class_name: str,
    name: str,
    outcome: Outcome,
    said: str,
    kind: str,
    took_s: float | None = None,
) -> None:
    """Add a case to a suite; ``kind`` is the type of what went wrong."""
    element = ET.SubElement(
        suite,
        "testcase",
        classname=text_of(class_name),
        name=text_of(name),
        time=_seconds(took_s),
    )
    if outcome in _ELEMENTS:
        verdict = ET.SubElement(element, _ELEMENTS[outcome], message=text_of(said or outcome.value))
        if outcome is not Outcome.SKIP:
            verdict.set("type", kind)
        verdict.text = text_of(said)
    elif said:
        ET.SubElement(element, "system-out").text = text_of(said)


def counted(suite: ET.Element, took_s: float | None) -> ET.Element:
    """Return the suite with the counts of its cases, and how long it took."""
    suite.set("tests", str(len(suite.findall("testcase"))))
    for count, element in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
        suite.set(count, str(len(suite.findall(f"testcase/{element}"))))
    suite.set("time", _seconds(took_s))
    return suite


def _took_s(record: RunRecord) -> float | None:
    if record.finished_at is None:
        return None
    return (record.finished_at - record.started_at).total_seconds()


def _seconds(seconds: float | None) -> str:
    return f"{max(seconds or 0.0, 0.0):.3f}"


def text_of(text: str) -> str:
    """Return what XML can hold of ``text``; the rest made visible."""
    return _NOT_XML.sub("\N{REPLACEMENT CHARACTER}", printable(text))
