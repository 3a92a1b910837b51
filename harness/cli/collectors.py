"""What is left for collectors when a run is over: metrics in a file, spans by OpenTelemetry.

Nothing of it is loaded in the process that pauses guests before they run again, and nothing that
fails changes how the run ended.
"""

from __future__ import annotations

from pathlib import Path

from harness.core.errors import HarnessError
from harness.core.settings import Config
from harness.results.folder import RunFolder


def check(config: Config) -> None:
    """Raise what can be known to be wrong before anything is paused."""
    if config.metrics.file is not None:
        from harness.results.report.prometheus import expect_writable

        expect_writable(config.metrics.file)
    if config.otel.endpoint is not None:
        from harness.results.spans import check

        check(config.otel)


def tell_of_run(folder: RunFolder, config: Config, state_dir: Path) -> list[str]:
    """Write the metrics and send the spans of a run; return what did not work, in words."""
    warnings = []
    if config.metrics.file is not None:
        from harness.results.report.openmetrics import leave

        try:
            leave(config.metrics.file, state_dir)
        except HarnessError as error:
            warnings.append(str(error))
    if config.otel.endpoint is not None:
        from harness.results.spans import send

        warnings += send(folder, config.otel)
    return warnings
