"""The pytest plugin ``harness``: hardware tests against your own VMs.

::

    def test_db_survives(maintenance):
        result = maintenance("db1", update="./patch.sh")
        assert result.passed
        assert result.guest("db1").downtime_s < 10

Fixtures: ``maintenance`` carries out one maintenance, ``harness_config`` is the configuration in
force (``--harness-config FILE``, else found as the command line finds it), ``harness_state_dir``
is where run folders go. A run's id, folder, outcome and figures are attached to the test's report.
What this machine lacks skips the test with the reason; capabilities named in ``HARNESS_REQUIRE``
(or ``all``) make that a failure.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from harness.core.config import Loaded
    from harness.core.errors import HarnessError
    from harness.core.records import CheckRecord, GuestRecord, RunRecord
    from harness.core.settings import Config


def pytest_addoption(parser: pytest.Parser) -> None:
    """``--harness-config FILE``."""
    group = parser.getgroup("harness", "rehearsed host maintenance")
    group.addoption(
        "--harness-config",
        metavar="FILE",
        default=os.environ.get("HARNESS_CONFIG"),
        help="harness.toml for the fixture `maintenance`; default: as `harness run` finds it",
    )


@dataclass(frozen=True)
class GuestResult:
    """One guest's part in a maintenance."""

    record: GuestRecord

    @property
    def passed(self) -> bool:
        """Whether every promise to this guest was kept."""
        return self.record.outcome == "pass"

    @property
    def downtime_s(self) -> float:
        """What a client saw, where a check measured that; else the pause, from outside."""
        check = self.checks.get("downtime")
        if check is not None and isinstance(check.measured, float):
            return check.measured
        return _known(self.record.pause_window_s, "pause", self.record.name)

    @property
    def offset_s(self) -> float:
        """Return guest − host in the end, seconds; negative is slow."""
        clock = self.record.clock
        end = clock.after_correction or clock.after_resume
        return _known(end.offset_s if end else None, "clock", self.record.name)

    @property
    def stale_clock_window_s(self) -> float:
        """Resume → corrected clock."""
        return _known(self.record.stale_clock_window_s, "correction", self.record.name)

    @property
    def checks(self) -> dict[str, CheckRecord]:
        """The promises by name."""
        return {check.name: check for check in self.record.checks}


@dataclass(frozen=True)
class MaintenanceResult:
    """A maintenance that is over."""

    record: RunRecord
    folder: Path
    error: HarnessError | None

    def __repr__(self) -> str:
        """``<FAIL: web1: clock 5.0 s slow (allowed 0.01 s)>``: what an assertion should show."""
        said = [
            f"{guest.name}: {check.name}: {check.detail}"
            for guest in self.record.guests
            for check in guest.checks
            if check.outcome.value in ("fail", "error")
        ]
        said = [*([str(self.error)] if self.error else []), *said]
        more = [f"and {len(said) - 3} more"] if said[3:] else []
        told = "; ".join([*said[:3], *more])
        outcome = self.record.outcome.value.upper()
        return f"<{outcome}{': ' if told else ''}{told}; run {self.record.run_id}>"

    @property
    def passed(self) -> bool:
        """Whether every promise was kept."""
        return self.record.exit_code == 0

    def guest(self, name: str) -> GuestResult:
        """That guest's part. Raises KeyError if it had none."""
        for guest in self.record.guests:
            if guest.name == name:
                return GuestResult(guest)
        raise KeyError(f"guest {name!r} had no part in run {self.record.run_id}: {self.error}")


Maintenance = Callable[..., MaintenanceResult]


@pytest.fixture(scope="session")
def harness_config(_harness_loaded: Loaded) -> Config:
    """The configuration in force; a mistake in it is an error of the test, not a skip."""
    return _harness_loaded.config


@pytest.fixture(scope="session")
def _harness_loaded(pytestconfig: pytest.Config) -> Loaded:
    from harness import api

    given = pytestconfig.getoption("--harness-config")
    return api.load_config(Path(given) if given else None, tell=_say)


def _say(line: str) -> None:
    from harness.results.report.spoken import printable

    sys.stderr.write(f"{printable(line)}\n")


@pytest.fixture(scope="session")
def harness_state_dir() -> Path:
    """Where run folders go: as on the command line, so that `harness report` finds them."""
    from harness.core.paths import state_dir

    return state_dir()


@pytest.fixture
def maintenance(
    request: pytest.FixtureRequest,
    harness_config: Config,
    harness_state_dir: Path,
    _harness_loaded: Loaded,
) -> Maintenance:
    """``maintenance(*guests, update=None, budget_s=None, settings=None)``; see the module.

    ``update``: a command line (split into words, no shell) or a list of words; None: as
    configured. ``settings``: dotted keys of harness.toml. Raises UsageError for what makes no
    sense and GuestStranded if a guest is still paused; other ends are in the result.
    """

    def carry_out(
        *guests: str,
        update: str | Sequence[str] | None = None,
        budget_s: float | None = None,
        settings: Mapping[str, Any] | None = None,
    ) -> MaintenanceResult:
        __tracebackhide__ = True  # of a wrong name or key the message is all there is to say
        from harness import api
        from harness.core.errors import GuestStranded, HarnessError, Interrupted, UsageError
        from harness.results import publish

        try:
            config = _changed(harness_config, update, budget_s, settings or {})
            finished = api.maintain(
                config,
                guests,
                state_dir=harness_state_dir,
                config_file=_harness_loaded.file,
                label="pytest",
            )
        except (HarnessError, ImportError) as error:
            _skip_if_missing(error)
            if isinstance(error, UsageError):
                raise error.with_traceback(None) from None
            raise
        result = MaintenanceResult(finished.record, finished.folder.path, finished.error)
        _attach(request.node, result, publish.finish(finished.folder))
        if isinstance(finished.error, GuestStranded):
            raise finished.error
        if isinstance(finished.error, Interrupted):
            raise KeyboardInterrupt
        return result

    return carry_out


def _changed(
    config: Config,
    update: str | Sequence[str] | None,
    budget_s: float | None,
    settings: Mapping[str, Any],
) -> Config:
    import shlex

    from harness.core.config import overlaid
    from harness.updates.registry import FULL_CONFIG

    changes = dict(settings)
    if update is not None:
        changes["update.kind"] = "command"
        changes["update.command"] = shlex.split(update) if isinstance(update, str) else [*update]
    if budget_s is not None:
        changes["budget_s"] = budget_s
    return overlaid(config, changes, FULL_CONFIG)


def _skip_if_missing(error: HarnessError | ImportError) -> None:
    """Skip where the error says that this machine lacks something; else do nothing."""
    from harness.core.errors import ConnectionLost, MissingCapability

    if isinstance(error, MissingCapability):
        name = error.name
    elif isinstance(error, ConnectionLost):
        name = "hypervisor"
    elif isinstance(error, ImportError):
        name = error.name or "module"
    else:
        return
    required = os.environ.get("HARNESS_REQUIRE", "").split(",")
    if "all" not in required and name not in required:
        pytest.skip(f"harness: no {name}: {error}")


def _attach(item: pytest.Item, result: MaintenanceResult, warnings: Sequence[str]) -> None:
    """So that every report of the tests, JUnit too, says which run it was."""
    from harness.results.history.figures import RUN, figures_of

    record = result.record
    item.user_properties += [
        ("harness_run_id", record.run_id),
        ("harness_folder", str(result.folder)),
        ("harness_outcome", record.outcome.value),
        *((f"harness_{f.name}", f.value) for f in figures_of(record) if f.guest == RUN),
    ]
    item.add_report_section("call", "harness", "\n".join([_table(result), *warnings]))


def _table(result: MaintenanceResult) -> str:
    import io

    from rich.console import Console

    from harness.results.report.table import print_run

    text = io.StringIO()
    print_run(result.record, Console(file=text, width=100), result.folder)
    return text.getvalue()


def _known(value: float | None, what: str, name: str) -> float:
    if value is None:
        raise ValueError(f"the {what} of guest {name!r} was not measured")
    return value
