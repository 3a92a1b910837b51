"""Metrics for collectors, by the parser of those who made the format: of a file and a listener."""

from __future__ import annotations

import urllib.error
import urllib.request

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families as prometheus

from harness.core.errors import ConfigError, EventError
from harness.core.records import Outcome
from harness.events.metrics_server import metrics_served, parse
from harness.results.folder import RunFolder
from harness.results.journal import Journal, Member, entries
from harness.results.report.openmetrics import CONTENT_TYPE, Collected, leave
from harness.testing.runs import HOSTILE, a_folder, a_guest, a_run


@pytest.fixture
def state_dir(tmp_path):
    """Two runs that passed, a newer one that failed, and one that died while it held a guest."""
    for number, outcome in enumerate((Outcome.PASS, Outcome.PASS, Outcome.FAIL)):
        a_folder(tmp_path, a_run(a_guest(HOSTILE, outcome), run_id=f"r{number}", outcome=outcome))
    dead = RunFolder.create(tmp_path, "r9-dead")
    with Journal(dead.path, dead.run_id) as journal:
        journal.intend(entries.Pausing((Member("web1", "uuid-1"),)))
    return tmp_path


def samples(text: str, parser=openmetrics) -> dict[tuple[str, str], float]:
    """Metric and the label that tells most about it → value."""
    found = {}
    for family in parser(text):
        for one in family.samples:
            labels = one.labels
            which = labels.get("outcome") or labels.get("run") or labels.get("check") or ""
            found[one.name, which] = one.value
    return found


@pytest.mark.parametrize("parser", [openmetrics, prometheus])
def test_runs_verdicts_pauses_clocks_and_the_stranded_are_told(state_dir, parser):
    """As both of a collector's formats."""
    found = samples(Collected(state_dir).text(), parser)
    assert found["harness_runs", "pass"] == 2
    assert found["harness_runs", "fail"] == 1
    assert found["harness_runs", "error"] == 0
    assert found["harness_run_success", ""] == 0.0
    assert found["harness_guests_still_paused", ""] == 0.0
    assert found["harness_pause_window_seconds", ""] == pytest.approx(5.012)
    assert found["harness_residual_seconds", ""] == pytest.approx(0.0002)
    assert found["harness_dead_runs", ""] == 1
    assert found["harness_guests_held", "dead"] == 1
    assert found["harness_guests_held", "live"] == 0


def test_an_empty_state_folder_has_metrics_too(tmp_path):
    assert samples(Collected(tmp_path).text())["harness_runs", "pass"] == 0


def test_a_run_that_ends_later_is_told_and_one_that_was_removed_is_not(state_dir):
    collected = Collected(state_dir)
    assert samples(collected.text())["harness_runs", "pass"] == 2
    a_folder(state_dir, a_run(run_id="r3", outcome=Outcome.PASS))
    assert samples(collected.text())["harness_runs", "pass"] == 3
    (state_dir / "runs" / "r0" / "run.json").unlink()
    assert samples(collected.text())["harness_runs", "pass"] == 2


def test_the_file_is_whole_or_the_old_one_and_readable_for_the_collector(state_dir):
    file = state_dir / "harness.prom"
    file.write_text("old\n")
    leave(file, state_dir)
    assert file.read_text().endswith("# EOF\n")
    assert file.stat().st_mode & 0o777 == 0o644
    assert not list(state_dir.glob(".harness.prom*"))


def test_a_collector_on_this_host_asks_a_listener_of_its_own(state_dir):
    """A real request; another path is not there."""
    collected = Collected(state_dir)
    with metrics_served(parse("127.0.0.1:0"), collected.text, CONTENT_TYPE) as port:
        url = f"http://127.0.0.1:{port}"
        with urllib.request.urlopen(f"{url}/metrics", timeout=10) as answer:
            assert answer.headers["Content-Type"] == CONTENT_TYPE
            assert samples(answer.read().decode())["harness_runs", "pass"] == 2
        with pytest.raises(urllib.error.HTTPError, match="404") as refused:
            urllib.request.urlopen(f"{url}/", timeout=10)
        refused.value.close()
        with pytest.raises(EventError, match="cannot serve metrics"):
            with metrics_served(("127.0.0.1", port), collected.text, CONTENT_TYPE):
                pass


@pytest.mark.parametrize(
    "text", ["0.0.0.0:9464", "192.168.122.1:9464", "[::]:9464", "9464", "localhost:9464",
             "127.0.0.1:x", "127.0.0.1:99999"],
)  # fmt: skip
def test_metrics_are_for_this_host_only(text):
    """They name every guest; a guest must not read them."""
    with pytest.raises(ConfigError, match=r"metrics\.listen"):
        parse(text)
    assert parse("[::1]:9464") == ("::1", 9464)
