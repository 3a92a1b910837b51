"""The files that a night leaves for a CI server and a collector, whatever becomes of the night.

Last night's file must not be taken for tonight's. JUnit's is red from the first moment on, so that
a night that is killed leaves no green one either; a collector reads its file all the time, so that
one is replaced when the night is over, however it ends.
"""

from __future__ import annotations

import platform
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from harness.core.errors import HarnessError, InfrastructureError, InternalError, Interrupted
from harness.core.records import HostRecord, Outcome, RunRecord, UpdateRecord
from harness.core.timebase import utc_now

_NOT_OVER = "the night has not ended: its process goes on, or was killed"
_NO_RUN = "no run"


@dataclass(frozen=True)
class NightFiles:
    """Where they are; None: not asked for."""

    prometheus: Path | None = None
    junit: Path | None = None
    guests: tuple[str, ...] = ()
    """Those that were named on the command line: each has its suite, also if nothing was run."""

    @classmethod
    def asked_for(cls, words: Sequence[str]) -> NightFiles:
        """Return what a command line asks for that click refuses."""
        found: dict[str, Path] = {}
        for position, word in enumerate(words):
            option, equals, value = word.partition("=")
            if option in ("--prometheus", "--junit"):
                value = value if equals else "".join(words[position + 1 : position + 2])
                if value:
                    found[option.removeprefix("--")] = Path(value)
        return cls(found.get("prometheus"), found.get("junit"))

    @contextmanager
    def replaced(self) -> Iterator[None]:
        """Replace both with red ones if the night ends by an exception, which goes on its way.

        Raises InfrastructureError at once if they cannot be written.
        """
        try:
            self._begin()
            yield
        except BaseException as error:
            self.refuse(*_said(error))
            raise

    def _begin(self) -> None:
        from harness.results.report import prometheus as metrics

        if self.junit is not None:
            self._write_junit(_without_run(_NOT_OVER, 3))
        if self.prometheus is not None:
            metrics.expect_writable(self.prometheus)

    def refuse(self, why: str, exit_code: int) -> list[str]:
        """Replace both: a night that could not begin. Returns what could not be written."""
        return self.publish(_without_run(why, exit_code), exit_code, began=False)

    def publish(
        self,
        record: RunRecord,
        exit_code: int,
        worse: Sequence[str] | None = None,
        *,
        began: bool = True,
    ) -> list[str]:
        """Replace both with what ``record`` and the night's exit code say.

        ``worse``: figures that got worse, None if that was not judged. Returns what could not be
        written, in words.
        """
        from harness.results.report import prometheus as metrics

        failed = []
        try:
            if self.prometheus is not None:
                text = metrics.document(record, worse) if began else metrics.without_run(record)
                metrics.write(
                    self.prometheus, text + metrics.night(record, exit_code) + metrics.END
                )
        except InfrastructureError as error:
            failed.append(str(error))
        try:
            if self.junit is not None:
                self._write_junit(record)
        except InfrastructureError as error:
            failed.append(str(error))
        return failed

    def _write_junit(self, record: RunRecord) -> None:
        from harness.results.report import junit as report
        from harness.results.report import prometheus as metrics

        if self.junit is not None:
            metrics.write(self.junit, report.document(record, self.guests))


def _said(error: BaseException) -> tuple[str, int]:
    """Return what ended the night, and its exit code, as the command line will say it."""
    if isinstance(error, KeyboardInterrupt):
        return "interrupted", Interrupted.exit_code
    if not isinstance(error, HarnessError):
        error = InternalError(error)
    return str(error), error.exit_code


def _without_run(why: str, exit_code: int) -> RunRecord:
    """A record that holds nothing but a reason; as much of a run as the two formats need."""
    now = utc_now()
    host = HostRecord(
        hostname=platform.node(),
        kernel=platform.release(),
        libvirt="",
        hypervisor="",
        cpu=platform.machine(),
        accelerator="",
    )
    return RunRecord(
        run_id=_NO_RUN,
        started_at=now,
        finished_at=now,
        outcome=Outcome.ERROR,
        exit_code=exit_code,
        budget_s=0.0,
        host=host,
        update=UpdateRecord(kind=""),
        label="nightly",
        problems=(why,),
    )
