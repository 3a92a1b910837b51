"""What a run leaves for collectors, and that none of them changes how it ends: real processes."""

from __future__ import annotations

import socket

from prometheus_client.openmetrics.parser import text_string_to_metric_families

from harness.testing.listener import listening
from tests.maintenance.test_output import expect_a_good_end
from tests.maintenance.test_output import process as process


def test_a_run_leaves_its_metrics_and_its_spans(process, tmp_path):
    """By a flag and by a key; the clock's residual is that of the record."""
    with listening(200) as there:
        with open(tmp_path / "house.toml", "a") as file:
            file.write(f'[otel]\nendpoint = "{there.url.removesuffix("/notices")}"\n')
        done = process("fine", "--metrics-file", "harness.prom")
    assert done.returncode == 0, done.stderr.decode()
    assert b"warning: no spans" not in done.stderr
    families = text_string_to_metric_families((tmp_path / "harness.prom").read_text())
    values = {one.name: one.value for family in families for one in family.samples}
    assert values["harness_run_success"] == 1.0
    assert values["harness_guests_still_paused"] == 0.0
    assert values["harness_pause_window_seconds"] > 0.2
    assert [one.path for one in there.taken] == ["/v1/traces"]


def test_a_collector_that_hangs_changes_nothing(process, tmp_path):
    """Exit code and record are those of the run."""
    with socket.create_server(("127.0.0.1", 0)) as mute:
        url = f"http://127.0.0.1:{mute.getsockname()[1]}"
        with open(tmp_path / "house.toml", "a") as file:
            file.write(f'[otel]\nendpoint = "{url}"\ntimeout_s = 0.5\n')
        done = process("fine")
    assert done.returncode == 0
    assert b"warning: no spans were sent" in done.stderr
    expect_a_good_end(tmp_path)


def test_a_file_that_cannot_be_written_is_refused_before_the_run(process, tmp_path):
    done = process("fine", "--metrics-file", "gone/harness.prom")
    assert done.returncode == 3
    assert b"its folder is missing or not writable" in done.stderr
    assert not list(tmp_path.glob("state/runs/*"))
