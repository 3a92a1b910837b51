"""Spans of a run: what they tell, and that no collector costs more than its time, or a verdict."""

from __future__ import annotations

import socket
from dataclasses import replace

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from harness.core.errors import ConfigError
from harness.core.records import Outcome
from harness.core.settings import OtelSection
from harness.core.timebase import Stopwatch
from harness.results.journal import Journal, Member, entries
from harness.results.spans import check, export, of_run, send
from harness.testing.listener import listening
from harness.testing.runs import HOSTILE, a_folder, a_guest, a_run

WEB = Member(HOSTILE, f"uuid-{HOSTILE}")


@pytest.fixture
def folder(tmp_path):
    """A run that paused one guest, resumed it and corrected its clock."""
    made = a_folder(tmp_path, a_run(a_guest(HOSTILE)))
    (made.path / "journal.jsonl").unlink(missing_ok=True)
    with Journal(made.path, made.run_id) as journal:
        journal.note(entries.UpdateDomainBegun("0"))
        journal.intend(entries.Pausing((WEB,)))
        journal.note(entries.Paused(WEB.name, WEB.uuid))
        journal.note(entries.Resuming("run", (WEB,)))
        journal.note(entries.Resumed(WEB.name, WEB.uuid, "run"))
        journal.note(entries.Mended(WEB.name, WEB.uuid))
    return made


def test_a_run_is_one_trace_from_the_run_to_each_guest(folder):
    """Run, update domain, then its stages and each guest's pause and correction, in order."""
    memory = InMemorySpanExporter()
    assert export(of_run(folder), memory)
    spans = {span.name: span for span in memory.get_finished_spans()}
    domain = spans["update domain"]
    assert set(spans) == {
        "maintenance", "update domain", "pause", "update", "resume", "paused", "correct clock",
    }  # fmt: skip
    assert len({span.context.trace_id for span in spans.values()}) == 1
    assert spans["maintenance"].parent is None
    assert domain.parent.span_id == spans["maintenance"].context.span_id
    for name in ("pause", "update", "resume", "paused", "correct clock"):
        assert spans[name].parent.span_id == domain.context.span_id
        assert domain.start_time <= spans[name].start_time <= spans[name].end_time
        assert spans[name].end_time <= domain.end_time
    assert spans["pause"].end_time <= spans["update"].start_time
    assert spans["update"].end_time <= spans["resume"].start_time
    clock = spans["correct clock"].attributes
    assert clock["harness.guest.name"] == HOSTILE
    assert clock["harness.clock.offset_after_s"] == pytest.approx(0.0002)
    assert spans["maintenance"].attributes["harness.outcome"] == "pass"
    assert all(span.status.status_code is StatusCode.UNSET for span in spans.values())


def test_what_failed_is_an_error_with_its_reason(folder):
    record = folder.record().model_copy(
        update={"outcome": Outcome.FAIL, "problems": ("web1: clock is 5.0 s slow",)}
    )
    folder.write_record(record)
    memory = InMemorySpanExporter()
    export(of_run(folder), memory)
    [run] = [span for span in memory.get_finished_spans() if span.parent is None]
    assert run.status.status_code is StatusCode.ERROR
    assert run.status.description == "web1: clock is 5.0 s slow"


def test_a_guest_that_was_never_resumed_has_no_end_that_looks_well(folder, tmp_path):
    for file in folder.path.glob("journal.jsonl"):
        lines = file.read_text().splitlines(keepends=True)
        file.write_text("".join(lines[:3]))
    told = of_run(folder)
    [domain] = told.inside
    [paused] = [one for one in domain.inside if one.name == "paused"]
    assert paused.problem == "is paused"
    assert "resume" not in [one.name for one in domain.inside]
    assert replace(paused).end_ns >= paused.start_ns


def test_a_collector_takes_them_by_http(folder):
    """A real process, a real listener, and OTLP's own messages."""
    with listening(200) as there:
        endpoint = there.url.removesuffix("/notices")
        assert send(folder, OtelSection(endpoint=endpoint)) == []
    [one] = there.taken
    assert one.path == "/v1/traces"
    message = ExportTraceServiceRequest.FromString(one.body)
    [resource] = message.resource_spans
    names = [span.name for scope in resource.scope_spans for span in scope.spans]
    assert sorted(names)[0] == "correct clock"
    assert len(names) == 7


@pytest.mark.parametrize("how", ["away", "hangs", "refuses"])
def test_a_collector_that_is_ill_costs_its_time_and_a_warning(folder, how):
    """One that hangs takes the connection and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as mute, listening(400) as there:
        url = {
            "away": "http://127.0.0.1:9",
            "hangs": f"http://127.0.0.1:{mute.getsockname()[1]}",
            "refuses": there.url.removesuffix("/notices"),
        }[how]
        watch = Stopwatch()
        [warning] = send(folder, OtelSection(endpoint=url, timeout_s=1.0))
    assert watch.elapsed_s() < 30
    assert warning.startswith("no spans were sent")


@pytest.mark.parametrize("endpoint", ["127.0.0.1:4318", "grpc://127.0.0.1:4317", "http://"])
def test_an_endpoint_that_is_none_is_refused_before_a_pause(endpoint):
    with pytest.raises(ConfigError, match=r"otel\.endpoint"):
        check(OtelSection(endpoint=endpoint))
