"""When people are told: at the end of a run or a night, and at once of a stranded guest."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from harness.core.errors import GuestStranded
from harness.core.settings import NotifySection

if TYPE_CHECKING:
    from harness.cli.nightly import Night
    from harness.maintenance.run import Finished


def configured(settings: NotifySection) -> bool:
    """Return True if anything is to be told to anyone."""
    return bool(settings.command or settings.mail_to or settings.webhook)


def check(settings: NotifySection) -> None:
    """Raise ConfigError for what could not be told, before anything is paused."""
    if configured(settings):
        from harness.results.notify.tell import check

        check(settings)


def of_run(finished: Finished, settings: NotifySection) -> list[str]:
    """Tell how a run ended; return what did not work, in words."""
    if not configured(settings):
        return []
    from harness.results.notify.notice import of_run
    from harness.results.notify.tell import tell

    error = str(finished.error) if finished.error is not None else None
    return tell(of_run(finished.record, finished.folder.path, error), settings)


def at_once(
    maintain: Callable[..., Finished], settings: NotifySection, say: Callable[[str], None]
) -> Callable[..., Finished]:
    """Return ``maintain`` that tells of a stranded guest before anything else is done."""

    def carried_out(label: str) -> Finished:
        finished = maintain(label=label)
        if isinstance(finished.error, GuestStranded):
            for problem in of_run(finished, settings):
                say(f"warning: {problem}")
        return finished

    return carried_out


def of_night(night: Night, host: str, settings: NotifySection) -> list[str]:
    """Tell how a night ended; return what did not work, in words."""
    if not configured(settings):
        return []
    from harness.results.notify.notice import of_night
    from harness.results.notify.tell import tell

    summary = night.summary(host)
    return tell(of_night(host, summary, night.exit_code, night.problems, night.runs), settings)
