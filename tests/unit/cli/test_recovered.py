"""Exit code of `harness recover`: what was seen, and what it has judged itself."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.cli.commands.recover import _exit_code
from harness.core.records import Outcome
from harness.maintenance.recovery.record import RunRecovery
from harness.maintenance.recovery.round import Recovery
from harness.results.folder import RunFolder


@pytest.mark.parametrize(
    ("verdict", "code"), [(None, 0), (Outcome.PASS, 0), (Outcome.FAIL, 1), (Outcome.ERROR, 3)]
)
def test_a_run_that_was_judged_here_has_its_exit_code_from_here(verdict, code):
    """It ended with its kernel: nobody else has been given one."""
    run = RunRecovery(RunFolder(Path("/nowhere")), verdict=verdict)
    assert _exit_code(Recovery(runs=(run,))) == code
