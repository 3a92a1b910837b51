"""The page: everything is on it, nothing in it can do more than be read, nothing is fetched."""

from __future__ import annotations

import gc
import re
import shutil
import subprocess
from html.parser import HTMLParser

import pytest
from pydantic import BaseModel

from harness.core.records import CheckRecord, GuestRecord, Outcome
from harness.core.settings import CHECK_NAMES
from harness.results.journal import Reading, fold, understood
from harness.results.report import overview
from harness.results.report.html import page, render
from harness.results.report.meanings import MEANINGS
from harness.results.report.story import Stretch, tell
from harness.results.report.words import quantity
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


def test_warnings_are_below_the_verdict_and_a_good_run_has_no_failures():
    """PASS is not followed by what sounds like a failure."""
    run = a_run().model_copy(update={"warnings": ("the host's clock drifts",)})
    text = page(run, Reading())
    assert 'id="failures"' not in text
    assert text.index("clock drifts") > text.index("<h2>Guests</h2>")
    bad = page(a_run(a_guest(outcome=Outcome.FAIL), outcome=Outcome.FAIL), Reading())
    assert bad.index('id="failures"') < bad.index("<h2>Guests</h2>")


def test_a_run_that_could_not_log_in_shows_no_empty_table():
    """A run that died has no such record either: nothing is said of whether guests were paused."""
    guest = GuestRecord(
        name="web1", uuid="u", outcome=Outcome.ERROR, accelerator="tcg", problems=("no login",)
    )
    run = a_run(guest, outcome=Outcome.ERROR).model_copy(update={"update_domains": ()})
    text = page(run, Reading())
    assert "No update domain is in the record." in text
    assert not re.search(r"<tbody>\s*</tbody>", text.partition("<h2>Journal")[0])
    assert "no login" in text


def test_each_check_links_to_what_it_means():
    """On the page itself, which asks for nothing else; every check has a sentence."""
    assert set(MEANINGS) == set(CHECK_NAMES)
    text = page(a_run(), Reading())
    for check in a_guest().checks:
        assert f'href="#means-{check.name}"' in text
        assert f'<dt id="means-{check.name}">' in text
    assert MEANINGS["same-boot"] in text
    ids = re.findall(r' id="([^"]*)"', text)
    assert len(ids) == len(set(ids))


def test_a_row_has_one_unit_and_real_minus_signs():
    """45 µs of 10 ms is 0.045 ms of 10.0 ms."""
    good = {"outcome": Outcome.PASS, "unit": "s"}
    small = CheckRecord(name="clock", measured=0.000045, allowed=0.01, **good)
    late = CheckRecord(name="lag", measured=-8.017, allowed=-8.0, **good)
    guest = a_guest().model_copy(update={"checks": (small, late)})
    text = page(a_run(guest), Reading())
    assert "0.045 ms" in text
    assert "10.0 ms" in text
    assert "−8.017 s" in text
    assert "-8.017" not in text
    assert re.search(r"≈ \s*−8.000 s", text)  # expected: no limit
    assert text.count("≈") == 1
    assert quantity(1, "timer units", None) == "1 timer unit"


def test_a_wrong_clock_stays_wrong_to_the_last_that_is_known():
    """And nothing is drawn beyond that: the picture goes on to the budget, the guest does not."""
    guest = a_guest(outcome=Outcome.FAIL).model_copy(update={"stale_clock_window_s": None})
    record = a_run(guest, outcome=Outcome.FAIL)
    [story] = tell(record, fold(understood(a_journal(record))))
    assert [span.what for span in story.guests[0].spans][-2:] == [Stretch.STALE, Stretch.WRONG]
    [story] = tell(a_run(), fold(understood(a_journal(record))))
    assert story.guests[0].spans[-1].what is Stretch.CORRECTED
    assert story.guests[0].spans[-1].end_s < 6 < a_run().budget_s < story.end_s


@pytest.fixture
def several(tmp_path):
    """A state folder with a good run, a bad one with a page, and one that cannot be read."""
    good = a_folder(tmp_path, a_run(run_id="20260101T020000Z-aaaaaa"))
    bad = a_guest(HOSTILE, Outcome.FAIL)
    worse = a_run(a_guest(), bad, run_id="20260102T020000Z-bbbbbb", outcome=Outcome.FAIL,
                  overhead_s=0.024, host=HOSTILE)  # fmt: skip
    other = a_folder(tmp_path, worse)
    (other.path / "report.html").write_text(render(other))
    broken = tmp_path / "runs" / "20260103T020000Z-cccccc"
    broken.mkdir()
    (broken / "run.json").write_text("{")
    return good, other


def test_the_index_lists_every_run_with_its_page(several, tmp_path):
    """Newest first; one without a page has no link, one that cannot be read says why."""
    text = overview.write_index(tmp_path).read_text()
    order = [text.index(sign) for sign in ("cccccc", "bbbbbb", "aaaaaa")]
    assert order == sorted(order)
    assert Seen(text).attributes.count(("href", "runs/20260102T020000Z-bbbbbb/report.html")) == 1
    assert "aaaaaa/report.html" not in text
    assert 'bbbbbb/report.html">2026-01-01 02:00</a>' in text  # in a phone's first column
    assert (tmp_path / "runs/20260102T020000Z-bbbbbb/report.html").exists()
    assert "script" not in Seen(text).tags
    (tmp_path / "empty").mkdir()
    assert "No run yet" in overview.write_index(tmp_path / "empty").read_text()


@pytest.mark.usefixtures("several")
def test_the_index_holds_no_records_while_it_is_made(tmp_path):
    """A state folder has thousands of runs, and a record of many guests is large."""
    listed = list(overview._entries(tmp_path))
    assert [one.run is None for one in listed] == [True, False, False]
    kept = gc.get_referents(*(one for one in listed), *(one.run for one in listed if one.run))
    assert not any(isinstance(one, BaseModel) for one in kept)


def test_two_runs_are_compared_figure_by_figure(several, tmp_path):
    """The older one first, guests that only one of them had as well."""
    first, second = overview.both(list(reversed(several)))
    assert first.run_id.endswith("aaaaaa")
    text = overview.write_comparison(tmp_path, first, second).read_text()
    for wanted in ("overhead of 0", "12.0 ms", "24.0 ms", "+100 %", "changed", "not alike",
                   "only second"):  # fmt: skip
        assert wanted in Seen(text).text, wanted
    assert "script" not in Seen(text).tags


def test_every_page_fits_a_phone(several, tmp_path, hostile):
    """At 360 px no page is wider than the screen; what is wide scrolls in a box of its own."""
    first, second = several
    pages = {
        "report": hostile,
        "index": overview.write_index(tmp_path).read_text(),
        "compare": overview.write_comparison(tmp_path, first, second).read_text(),
    }
    wide = '<div style="width: 500px">x</div></main>'
    pages["bad"] = pages["index"].replace("</main>", wide)
    pages["bare"] = pages["index"].replace('class="wide"', 'style="overflow-x: auto"')
    seen = _on_a_phone(tmp_path, pages)
    assert seen.pop("bad")[0] > 0
    too_wide = {name: over for name, (over, _, _) in seen.items()}
    assert max(too_wide.values()) <= 0, too_wide
    # What is cut off can be scrolled, and shows it.
    assert seen.pop("bare")[2] > 0
    assert sum(cut_off for _, cut_off, _ in seen.values()) > 0
    assert {name: unseen for name, (_, _, unseen) in seen.items()} == dict.fromkeys(seen, 0)


#: Of a document: how much wider it is than its frame, how many boxes in it are cut off, and how
#: many of these cannot be scrolled or do not show that they can.
_MEASURE = """d => {
  const cut = [...d.body.querySelectorAll('*')].filter(e => e.scrollWidth > e.clientWidth + 1
    && e.clientWidth > 0 && getComputedStyle(e).overflowX !== 'visible');
  const signs = e => { const s = getComputedStyle(e);
    return ['auto', 'scroll'].includes(s.overflowX) && s.backgroundImage.includes('gradient') };
  const over = d.documentElement.scrollWidth - d.documentElement.clientWidth;
  return [over, cut.length, cut.filter(e => !signs(e)).length].join(' ') }"""


def _on_a_phone(tmp_path, pages: dict[str, str]) -> dict[str, tuple[int, ...]]:
    """Return what ``_MEASURE`` finds of each page in a frame of 360 px, asked of a browser."""
    for name, text in pages.items():
        (tmp_path / f"{name}.html").write_text(text)
    frames = "".join(
        f'<iframe src="{name}.html" width="360" height="640" style="border: 0"></iframe>'
        for name in pages
    )
    frame = tmp_path / "frames.html"
    frame.write_text(
        f"{frames}<script>onload = () => {{ document.title = 'over:' + [...document"
        f".querySelectorAll('iframe')].map(f => f.contentDocument).map({_MEASURE}).join(',')"
        " + ':' }</script>"
    )
    done = _browser(
        f"--user-data-dir={tmp_path / 'profile'}",
        "--allow-file-access-from-files",
        "--virtual-time-budget=2000",
        "--dump-dom",
        frame.as_uri(),
    )
    found = re.search(r"<title>over:([-\d ,]+):", done.stdout)
    assert found, done.stdout[:500]
    measured = [tuple(map(int, one.split())) for one in found[1].split(",")]
    return dict(zip(pages, measured, strict=True))
