"""The figures of runs in Prometheus' text format, for node_exporter's textfile collector."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from harness.core.errors import InfrastructureError
from harness.core.records import Outcome, RunRecord
from harness.results.history.figures import KINDS, RUN, Figure, figures_of
from harness.results.report.spoken import printable

_MODE = 0o644  # the collector is another user
#: The last line of a file: OpenMetrics wants it, and to Prometheus' older format it is a comment.
END = "# EOF\n"


def document(record: RunRecord, regressions: Sequence[str] | None = None) -> str:
    """Metrics of the newest run; ``regressions``: figures that got worse, None if not judged."""
    host = _host(record)
    lines = _ended(record)
    stranded = float(sum(guest.still_paused for guest in record.guests))
    lines += _metric("harness_guests_still_paused", "guests that could not be resumed",
                     [(host, stranded)])  # fmt: skip
    checks = [
        ({**host, "guest": guest.name, "check": check.name}, float(check.outcome is Outcome.PASS))
        for guest in record.guests
        for check in guest.checks
        if check.outcome is not Outcome.SKIP
    ]
    lines += _metric("harness_check_success", "1 if the promise was kept", checks)
    figures = figures_of(record)
    for name, kind in KINDS.items():
        found = [one for one in figures if one.name == name]
        lines += _metric(_named(name), kind.meaning, [(_labels(one, host), one.value)
                                                      for one in found])  # fmt: skip
    if regressions is not None:
        worse = [({**host, "figure": name}, float(name in regressions)) for name in KINDS]
        lines += _metric("harness_regression", "1 if worse than the nights before", worse)
    return "\n".join(lines) + "\n"


def without_run(record: RunRecord) -> str:
    """Metrics where there was no run: that there was none, and nothing that could pass for good."""
    return "\n".join(_ended(record)) + "\n"


def night(record: RunRecord, exit_code: int) -> str:
    """Metrics of a night as a whole, beside those of the run that is shown for it."""
    host = {"host": record.host.hostname}
    lines = _metric("harness_night_success", "1 if the whole night was good",
                    [(host, float(exit_code == 0))])  # fmt: skip
    lines += _metric("harness_night_exit_code", "exit code of harness nightly",
                     [(host, float(exit_code))])  # fmt: skip
    return "\n".join(lines) + "\n"


def gauge(name: str, meaning: str, values: Sequence[tuple[Mapping[str, str], float]]) -> str:
    """Return one metric with its values by labels; "" if it has none."""
    lines = _metric(name, meaning, values)
    return "\n".join(lines) + "\n" if lines else ""


def _host(record: RunRecord) -> dict[str, str]:
    return {"host": record.host.hostname, "accelerator": record.host.accelerator}


def _ended(record: RunRecord) -> list[str]:
    host, finished = _host(record), record.finished_at or record.started_at
    lines = _metric("harness_run_success", "1 if every promise was kept",
                    [(host, float(record.outcome is Outcome.PASS))])  # fmt: skip
    lines += _metric("harness_run_exit_code", "exit code of the newest run",
                     [(host, float(record.exit_code))])  # fmt: skip
    return lines + _metric(
        "harness_run_finished_timestamp_seconds",
        "when the newest run ended",
        [(host, finished.timestamp())],
    )


def expect_writable(file: Path) -> None:
    """Raise InfrastructureError if ``file`` could not be replaced as things are."""
    if not os.access(file.parent, os.W_OK | os.X_OK) or file.is_dir():
        raise InfrastructureError(f"cannot write {file}: its folder is missing or not writable")


def write(file: Path, text: str) -> None:
    """Replace ``file``, readable for the collector. Raises InfrastructureError."""
    temporary = file.with_name(f".{file.name}.new")
    try:
        with open(temporary, "w", encoding="utf-8", opener=_opened) as target:
            os.fchmod(target.fileno(), _MODE)
            target.write(text)
        temporary.replace(file)
    except OSError as error:
        raise InfrastructureError(f"cannot write {file}: {error.strerror}") from error


def _opened(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CLOEXEC, _MODE)


def _named(figure: str) -> str:
    return f"harness_{figure.removesuffix('_s')}_seconds"


def _labels(figure: Figure, host: Mapping[str, str]) -> dict[str, str]:
    return {**host, "guest": figure.guest} if figure.guest != RUN else {**host, "guest": ""}


def _metric(
    name: str, meaning: str, values: Sequence[tuple[Mapping[str, str], float]]
) -> list[str]:
    if not values:
        return []
    head = [f"# HELP {name} {meaning}", f"# TYPE {name} gauge"]
    return head + [f"{name}{{{_said(labels)}}} {value!r}" for labels, value in values]


def _said(labels: Mapping[str, str]) -> str:
    return ",".join(f'{key}="{_escaped(value)}"' for key, value in labels.items())


def _escaped(value: str) -> str:
    return printable(value).replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
