"""Spans of a run for an OpenTelemetry collector, from its record and its journal, when it is over.

A process of its own sends them, as it makes the report: its libraries are slow to load, and a
collector that hangs is given up with it. ``python -P -m harness.results.spans FOLDER ENDPOINT S``.

run → update domain → pause, update and resume; and of each guest: paused, and correct the clock.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from harness.core.errors import ConfigError, HarnessError
from harness.core.extras import require
from harness.core.process_state import python_module, settle_process
from harness.core.records import GuestRecord, Outcome, RunRecord
from harness.core.settings import OtelSection
from harness.core.timebase import NS_PER_S
from harness.results.folder import RunFolder
from harness.results.journal import FILE_NAME, GuestCustody, History, Window, fold, read

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.sdk.trace.export import SpanExporter

#: For loading the libraries, beside what the collector may take.
_LOADING_S = 10.0
Value = str | int | float | bool


@dataclass(frozen=True)
class Told:
    """One span; stamps are nanoseconds since 1970."""

    name: str
    start_ns: int
    end_ns: int
    attributes: Mapping[str, Value] = field(default_factory=dict)
    problem: str | None = None
    """Why it is an error; None: it is none."""
    inside: tuple[Told, ...] = ()


def check(settings: OtelSection) -> None:
    """Raise ConfigError for an endpoint that is none, MissingCapability without the libraries."""
    parts = urlsplit(settings.endpoint or "")
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigError(
            "must be a URL of http or https, such as http://127.0.0.1:4318", key="otel.endpoint"
        )
    require("otel", "sending spans")


def send(folder: RunFolder, settings: OtelSection) -> list[str]:
    """Send the spans of a run by a process of its own; return what did not work. Never raises."""
    words = [str(folder.path), settings.endpoint or "", f"{settings.timeout_s:g}"]
    command = python_module("harness.results.spans", *words)
    limit_s = settings.timeout_s + _LOADING_S
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=limit_s
        )
    except subprocess.TimeoutExpired:
        return [f"no spans were sent: {settings.endpoint} did not take them in time"]
    except OSError as error:
        return [f"no spans were sent: {error}"]
    if done.returncode == 0:
        return []
    said = done.stderr.decode(errors="replace").strip().splitlines()
    return [f"no spans were sent: {said[-1] if said else f'status {done.returncode}'}"]


def tell(record: RunRecord, history: History, ahead_ns: int) -> Told:
    """Return the spans of a run. Pure.

    ``ahead_ns``: by how much CLOCK_REALTIME was ahead of the journal's CLOCK_BOOTTIME.
    """
    guests = {guest.uuid: guest for guest in record.guests}
    domains = tuple(_domain(one, record, guests, ahead_ns) for one in history.windows)
    start_ns = round(record.started_at.timestamp() * NS_PER_S)
    ended = record.finished_at or record.started_at
    last_ns = max((one.end_ns for one in domains), default=start_ns)
    return Told(
        "maintenance",
        start_ns,
        max(round(ended.timestamp() * NS_PER_S), last_ns),
        {
            "harness.run_id": record.run_id,
            "harness.outcome": record.outcome.value,
            "harness.exit_code": record.exit_code,
            "harness.update.kind": record.update.kind,
            "harness.guests": len(record.guests),
            "harness.budget_s": record.budget_s,
            "host.name": record.host.hostname,
        },
        _problem(record.outcome, record.problems),
        domains,
    )


def _problem(outcome: Outcome, problems: Sequence[str]) -> str | None:
    if outcome not in (Outcome.FAIL, Outcome.ERROR):
        return None
    return "; ".join(problems) or outcome.value


def _domain(
    window: Window, record: RunRecord, guests: Mapping[str, GuestRecord], ahead_ns: int
) -> Told:
    known = {one.name: one for one in record.update_domains}
    found = known.get(window.domain)
    facts: dict[str, Value] = {"harness.update_domain": window.domain}
    problem = None
    if found is not None:
        facts["harness.outcome"] = found.outcome.value
        if found.pause_window_s is not None:
            facts["harness.pause_window_s"] = found.pause_window_s
        problem = _problem(found.outcome, found.problems)
    inside = (
        *_stages(window, ahead_ns),
        *(
            told
            for uuid, guest in window.guests.items()
            for told in _guest(guest, guests.get(uuid), window, ahead_ns)
        ),
    )
    end_ns = max([window.last_ns + ahead_ns, *(one.end_ns for one in inside)])
    return Told("update domain", window.began_ns + ahead_ns, end_ns, facts, problem, inside)


def _stages(window: Window, ahead_ns: int) -> Iterator[Told]:
    """Yield pause, update and resume of a domain, as far as the journal tells of them."""
    paused = _known(guest.paused_ns for guest in window.guests.values())
    resuming = _known(guest.resuming_ns for guest in window.guests.values())
    runs = _known(guest.runs_since_ns for guest in window.guests.values())
    if paused:
        yield Told("pause", window.began_ns + ahead_ns, max(paused) + ahead_ns)
    if paused and resuming and min(resuming) >= max(paused):
        yield Told("update", max(paused) + ahead_ns, min(resuming) + ahead_ns)
    if resuming and runs and max(runs) >= min(resuming):
        yield Told("resume", min(resuming) + ahead_ns, max(runs) + ahead_ns)


def _known(stamps: Iterable[int | None]) -> list[int]:
    return [stamp for stamp in stamps if stamp is not None]


def _guest(
    guest: GuestCustody, record: GuestRecord | None, window: Window, ahead_ns: int
) -> Iterator[Told]:
    facts: dict[str, Value] = {
        "harness.guest.name": guest.member.name,
        "harness.guest.uuid": guest.member.uuid,
    }
    problem = _problem(record.outcome, record.problems) if record is not None else None
    until_ns = guest.runs_since_ns
    if guest.paused_ns is not None:
        end_ns = until_ns if until_ns is not None else window.last_ns
        paused = {**facts, "harness.custody": guest.custody.value}
        stuck = None if until_ns is not None else f"is {guest.custody.value}"
        end_ns = max(end_ns, guest.paused_ns)
        yield Told("paused", guest.paused_ns + ahead_ns, end_ns + ahead_ns, paused, stuck)
    if until_ns is not None and guest.mended_ns is not None and guest.mended_ns >= until_ns:
        clock = {**facts, **(_clock(record) if record is not None else {})}
        stamps = until_ns + ahead_ns, guest.mended_ns + ahead_ns
        yield Told("correct clock", *stamps, clock, problem)


def _clock(record: GuestRecord) -> dict[str, Value]:
    clock, facts = record.clock, {"harness.outcome": record.outcome.value}
    found: dict[str, Value] = dict(facts)
    if clock.method is not None:
        found["harness.clock.method"] = clock.method
    for name, reading in (("after_resume", clock.after_resume), ("after", clock.after_correction)):
        if reading is not None:
            found[f"harness.clock.offset_{name}_s"] = reading.offset_s
            found[f"harness.clock.uncertainty_{name}_s"] = reading.uncertainty_s
    return found


def of_run(folder: RunFolder) -> Told:
    """Return the spans of the run in ``folder``. Raises HarnessError."""
    reading = read(folder.path / FILE_NAME)
    first = reading.lines[0] if reading.lines else None
    ahead_ns = first.realtime_ns - first.boottime_ns if first is not None else 0
    return tell(folder.record(), fold(reading), ahead_ns)


def as_spans(told: Told) -> list[ReadableSpan]:
    """Return finished spans, in one trace, as the SDK has them."""
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
    from opentelemetry.trace import Span, Status, StatusCode, set_span_in_context

    from harness import __version__

    made: list[ReadableSpan] = []
    resource = Resource.create({"service.name": "harness", "service.version": __version__})
    tracer = TracerProvider(resource=resource, shutdown_on_exit=False).get_tracer(
        "harness", __version__
    )

    def add(one: Told, parent: Span | None) -> None:
        context = set_span_in_context(parent) if parent is not None else None
        span = tracer.start_span(
            one.name, context, attributes=dict(one.attributes), start_time=one.start_ns
        )
        if one.problem is not None:
            span.set_status(Status(StatusCode.ERROR, one.problem))
        for inner in one.inside:
            add(inner, span)
        span.end(one.end_ns)
        if isinstance(span, ReadableSpan):
            made.append(span)

    add(told, None)
    return made


def export(told: Told, exporter: SpanExporter) -> bool:
    """Give the spans to ``exporter``; return whether it has taken them."""
    from opentelemetry.sdk.trace.export import SpanExportResult

    taken = exporter.export(as_spans(told)) is SpanExportResult.SUCCESS
    exporter.shutdown()
    return taken


def main(path: str, endpoint: str, timeout_s: str) -> int:
    """The process: 0 if the collector has taken all spans; else its last line says why not."""
    try:
        require("otel", "sending spans")
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

        url = f"{endpoint.rstrip('/')}/v1/traces"
        taken = export(
            of_run(RunFolder(Path(path))), OTLPSpanExporter(url, timeout=float(timeout_s))
        )
    except HarnessError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    except Exception as error:  # noqa: BLE001  of libraries
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
        return 1
    if not taken:
        sys.stderr.write(f"{endpoint} did not take them\n")
    return 0 if taken else 1


if __name__ == "__main__":
    settle_process()
    status = main(*sys.argv[1:])
    sys.stderr.flush()
    os._exit(status)  # no library's thread keeps us
