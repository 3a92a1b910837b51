"""The page: everything is on it, nothing in it can do more than be read, nothing is fetched."""

from __future__ import annotations

import re
import shutil
import subprocess
from html.parser import HTMLParser

import pytest

from harness.core.records import CheckRecord, GuestRecord, Outcome
from harness.results.journal import Reading, fold, understood
from harness.results.report.html import page, render
from harness.results.report.story import Stretch, tell
from harness.testing.required import required
from harness.testing.runs import HOSTILE, a_folder, a_guest, a_journal, a_run


class Seen(HTMLParser):
    """The tags and attributes that a browser would act on."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data):
        self.text += data


@pytest.fixture(scope="module")
def hostile(tmp_path_factory) -> str:
    """The page of a run in which everything that can be hostile is."""
    check = CheckRecord(
        name=HOSTILE, outcome=Outcome.FAIL, measured=HOSTILE, allowed=HOSTILE, detail=HOSTILE
    )
    guest = a_guest(HOSTILE, Outcome.FAIL)
    guest = guest.model_copy(
        update={
            "checks": (*guest.checks, check),
            "facts": {HOSTILE: HOSTILE},
            "problems": (HOSTILE,),
            "still_paused": True,
        }
    )
    record = a_run(guest, outcome=Outcome.FAIL, host=HOSTILE)
    record = record.model_copy(update={"problems": (HOSTILE,), "warnings": (HOSTILE,)})
    folder = a_folder(tmp_path_factory.mktemp("state"), record)
    (folder.path / "update-%3Cb%3E.log").write_bytes(HOSTILE.encode() + b"\xff\xfe\n" * 3)
    folder.write_guest(HOSTILE, "kernel.log", HOSTILE + "\n")
    text = render(folder)
    (folder.path / "report.html").write_text(text)
    return text


def test_what_is_hostile_is_shown_and_not_obeyed(hostile):
    """No script, no handler, no control character, no template code that was carried out."""
    seen = Seen(hostile)
    assert "script" not in seen.tags
    assert not [name for name, _ in seen.attributes if name.startswith("on")]
    assert "<script>alert(1)</script>" in seen.text
    assert "{{7*7}}" in seen.text
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f\u202e]", hostile)


def test_the_page_needs_nothing_but_itself(hostile):
    """Nothing on it names another address, and a policy forbids it to."""
    seen = Seen(hostile)
    fetched = [v for k, v in seen.attributes if k in ("src", "href", "xlink:href", "action")]
    assert fetched
    assert all(value.startswith(("#", "data:")) for value in fetched)
    assert not re.search(r"url\((?!#)|@import", hostile)
    assert "default-src 'none'" in hostile


def test_a_person_finds_verdict_figures_checks_outputs_and_journal(tmp_path):
    """What the page is for."""
    folder = a_folder(tmp_path, a_run(a_guest("web1"), a_guest("web2", Outcome.FAIL)))
    (folder.path / "update-0.log").write_text("patched 3 hosts\n")
    folder.write_guest("web2", "kernel.log", "clocksource: blah\n")
    text = Seen(render(folder)).text
    for wanted in ("5.203 s slow", "200 µs fast", "same-boot", "30.000 s", "patched 3 hosts",
                   "clocksource: blah", "192.0.2.1", "run finished", "QEMU 7"):  # fmt: skip
        assert wanted in text, wanted


def test_a_timeline_has_every_stretch_of_a_guest_in_order():
    """From the first pause call to the corrected clock, without a gap."""
    record = a_run()
    [story] = tell(record, fold(understood(a_journal(record))))
    [guest] = story.guests
    assert [span.what for span in guest.spans] == [
        Stretch.PAUSING,
        Stretch.PAUSED,
        Stretch.RESUMING,
        Stretch.STALE,
        Stretch.CORRECTED,
    ]
    assert all(a.end_s == b.start_s for a, b in zip(guest.spans, guest.spans[1:], strict=False))
    stale = guest.spans[3]
    assert stale.end_s - stale.start_s == pytest.approx(0.0921)
    assert story.end_s > record.budget_s


def test_a_guest_that_was_never_resumed_is_paused_to_the_end():
    """The timeline of a killed run says what is known."""
    record = a_run()
    entries = [e for e in a_journal(record) if e["event"] not in ("resumed", "mended")]
    history = fold(understood(entries))
    [story] = tell(record.model_copy(update={"guests": ()}), history)
    assert story.guests[0].spans[-1].what is Stretch.RESUMING


@pytest.mark.parametrize(
    "entries",
    [[], [{"event": "pausing"}], [{"event": "pausing", "guests": 3, "boottime_ns": "x"}], [{}]],
)
def test_a_journal_that_cannot_be_understood_costs_only_the_timeline(entries):
    """The record is shown all the same."""
    assert "web1" in page(a_run(), understood(entries))


def test_a_run_that_measured_nothing_has_a_page():
    """No guest, no reading, no time at which it finished."""
    bare = GuestRecord(name="x", uuid="u", outcome=Outcome.ERROR, accelerator="kvm")
    record = a_run(bare, outcome=Outcome.ERROR)
    assert "ERROR" in page(record, Reading())
    assert "ERROR" in page(record.model_copy(update={"guests": (), "finished_at": None}), Reading())


def test_a_long_output_is_shown_with_its_beginning_and_its_end(tmp_path):
    """And the page says what it leaves out."""
    folder = a_folder(tmp_path, a_run())
    (folder.path / "update-0.log").write_bytes(b"first\n" + b"x" * 1_000_000 + b"\nlast\n")
    text = render(folder)
    assert "first" in text
    assert "last" in text
    assert "bytes are not shown" in text
    assert len(text) < 300_000


#: What the browser asks for by itself, whatever the page.
_ERRAND = re.compile(r"https?://[a-z0-9.-]+\.(google|googleapis|gvt1|gstatic)\.com/")


def _browser(*arguments: str) -> subprocess.CompletedProcess[str]:
    chromium = shutil.which("chromium")
    if chromium is None and required("browser"):
        pytest.fail("a browser is required, and there is no chromium")
    if chromium is None:
        pytest.skip("no browser: chromium is not installed")
    common = [
        *("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"),
        *("--disable-background-networking", "--disable-component-update", "--no-first-run"),
        *("--disable-sync", "--disable-default-apps", "--no-proxy-server"),
    ]
    return subprocess.run(
        [chromium, *common, *arguments], capture_output=True, text=True, timeout=60, check=True
    )


def _opened(tmp_path, text: str) -> tuple[list[str], list[str], str]:
    """What a browser complained about, what it asked for, and the page as it understood it."""
    file = tmp_path / "report.html"
    file.write_text(text)
    log = tmp_path / "net.json"
    done = _browser(
        f"--user-data-dir={tmp_path / 'profile'}",
        f"--log-net-log={log}",
        "--enable-logging=stderr",
        "--virtual-time-budget=2000",
        "--dump-dom",
        file.as_uri(),
    )
    console = [line for line in done.stderr.splitlines() if ":CONSOLE" in line]
    asked = set(re.findall(r'"url":"((?:https?|wss?|ftp):[^"]*)"', log.read_text()))
    return console, [url for url in asked if not _ERRAND.match(url)], done.stdout


def test_a_browser_finds_no_error_and_asks_for_nothing(hostile, tmp_path):
    """Headless Chromium opens the hostile page: no error, no request."""
    console, asked, dom = _opened(tmp_path, hostile)
    assert console == []
    assert asked == []
    assert dom.count("<svg") == hostile.count("<svg")
    assert "<title>FAIL" in dom


def test_the_browser_test_would_notice_an_error_and_a_request(hostile, tmp_path):
    """The same page with a script and a picture from elsewhere, its policy taken away."""
    bad = re.sub(r"<meta http-equiv[^>]*>", "", hostile).replace(
        "</body>",
        '<script>console.error("x")</script><img src="http://page-asked.invalid/x"></body>',
    )
    console, asked, _ = _opened(tmp_path, bad)
    assert console
    assert asked
