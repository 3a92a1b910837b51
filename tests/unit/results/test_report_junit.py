"""junit.xml: valid whatever a run or a name is like, and red unless everything was judged good."""

from __future__ import annotations

from pathlib import Path

import pytest
from lxml import etree

from harness.core.records import CheckRecord, Outcome
from harness.results.report import junit
from harness.testing.runs import HOSTILE, a_folder, a_guest, a_run

SCHEMA = etree.XMLSchema(etree.parse(Path(__file__).parents[2] / "data" / "junit-10.xsd"))


def read(text: str) -> etree._Element:
    """The document, valid against the common schema."""
    root = etree.fromstring(text.encode())
    SCHEMA.assertValid(root)
    return root


def suite(root: etree._Element, name: str) -> etree._Element:
    [found] = [one for one in root.iter("testsuite") if one.get("name") == name]
    return found


def kinds(one: etree._Element) -> dict[str, str]:
    """Case → failure, error, skipped, or passed."""
    verdicts = ("failure", "error", "skipped")
    return {
        case.get("name"): next((child.tag for child in case if child.tag in verdicts), "passed")
        for case in one.iter("testcase")
    }


def test_a_guest_is_a_suite_and_a_check_a_case():
    """With the outcomes that CI servers know, and counts that agree."""
    error = CheckRecord(name="lag", outcome=Outcome.ERROR, detail="could not tell")
    guest = a_guest("web1", Outcome.FAIL)
    guest = guest.model_copy(update={"checks": (*guest.checks, error)})
    root = read(junit.document(a_run(guest, a_guest("web2"), outcome=Outcome.FAIL)))
    web1 = suite(root, "web1")
    assert kinds(web1) == {
        "pause-window": "passed",
        "clock": "failure",
        "same-boot": "passed",
        "kernel-log": "skipped",
        "lag": "error",
        "maintenance": "passed",
    }
    counts = {key: web1.get(key) for key in ("tests", "failures", "errors", "skipped")}
    assert counts == {"tests": "6", "failures": "1", "errors": "1", "skipped": "1"}
    assert (root.get("failures"), root.get("errors")) == ("1", "1")
    assert "vs 10.0 ms" in web1.find(".//failure").get("message")


def test_measured_values_are_properties():
    """So that a CI server can draw them."""
    web1 = suite(read(junit.document(a_run())), "web1")
    properties = {one.get("name"): one.get("value") for one in web1.iter("property")}
    assert properties["pause_window_s"] == "5.012"
    assert properties["clock.after_correction.offset_s"] == "0.0002"
    assert properties["clock.measured"] == "0.0002"
    assert properties["same-boot.measured"] == "b-1"


def test_a_run_that_was_killed_leaves_a_valid_file_that_is_red():
    """From the first second, when nothing has been judged, every planned guest is an error."""
    record = a_run().model_copy(
        update={"guests": (), "update_domains": (), "finished_at": None, "outcome": Outcome.SKIP}
    )
    root = read(junit.document(record, ["web1", "web2"]))
    assert kinds(suite(root, "web1")) == {"maintenance": "error"}
    assert kinds(suite(root, "web2")) == {"maintenance": "error"}
    assert kinds(suite(root, "harness")) == {"run": "error"}


def test_a_guest_that_is_still_paused_is_an_error_whatever_its_checks_say():
    """The worst there is cannot be green."""
    guest = a_guest().model_copy(update={"still_paused": True})
    assert kinds(suite(read(junit.document(a_run(guest))), "web1"))["maintenance"] == "error"


@pytest.mark.parametrize("name", [HOSTILE, "\ud800", "\x00", "]]>", "<a>&amp;", "\x85\u2028 "])
def test_a_hostile_name_is_data(name):
    """Whatever a name or an output holds, the document is one, and valid."""
    guest = a_guest(name, Outcome.FAIL)
    check = CheckRecord(name=name, outcome=Outcome.FAIL, measured=name, allowed=name, detail=name)
    guest = guest.model_copy(update={"checks": (check,), "problems": (name,)})
    record = a_run(guest, host=name).model_copy(update={"problems": (name,)})
    root = read(junit.document(record))
    assert len(list(root.iter("testsuite"))) == 2


def test_no_time_is_one_that_the_schema_refuses():
    """A run of hours, and one whose clock was set back."""
    record = a_run()
    for seconds in (123456.7, -5.0):
        later = record.started_at.timestamp() + seconds
        finished = record.started_at.fromtimestamp(later, tz=record.started_at.tzinfo)
        read(junit.document(record.model_copy(update={"finished_at": finished})))


def test_a_reader_never_sees_half_a_file(tmp_path):
    """It is replaced, not written over."""
    folder = a_folder(tmp_path, a_run())
    junit.keep(folder, a_run(), ["later"])
    held = open(folder.path / junit.FILE_NAME, "rb")  # noqa: SIM115 - closed below
    junit.keep(folder, a_run())
    with held:
        assert b"later" in held.read()
    assert b"later" not in (folder.path / junit.FILE_NAME).read_bytes()


def test_a_validator_that_finds_nothing_would_be_found_out():
    """The schema does refuse what is not a report."""
    with pytest.raises(etree.DocumentInvalid):
        SCHEMA.assertValid(etree.fromstring(b"<testsuites><testsuite/></testsuites>"))
