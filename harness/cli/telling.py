"""When people are notified: at the end of a run or a night, and at once of a stranded guest."""

from __future__ import annotations

import platform
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from harness.core.errors import GuestStranded, HarnessError
from harness.core.settings import NotifySection

if TYPE_CHECKING:
    from harness.cli.nightly import Night
    from harness.maintenance.recovery.record import RunRecovery
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
    warnings = tell(of_run(finished.record, finished.folder.path, error), settings)
    paused = [guest.name for guest in finished.record.guests if guest.still_paused]
    if paused and not warnings:  # its guardian, and recover, need not
        from harness.results.notify.dead_run import note_told

        note_told(finished.folder, paused)
    return warnings


def of_recovery(runs: Sequence[RunRecovery]) -> list[str]:
    """Tell of guests that dead runs left paused, by each run's own settings, once.

    Returns what did not work, in words.
    """
    warnings = []
    for run in runs:
        if run.paused:
            try:
                warnings += _of_dead(run)
            except HarnessError as error:
                warnings.append(f"no notification of run {run.folder.run_id}: {error}")
    return warnings


def _of_dead(run: RunRecovery) -> list[str]:
    from harness.core.pasteable import virsh
    from harness.maintenance.recovery.record import HELD
    from harness.results.notify.dead_run import settings_of, tell_once
    from harness.results.notify.notice import of_dead_run

    settings = settings_of(run.folder)
    if not configured(settings):
        return []
    paused = [guest for guest in run.guests if guest.paused or guest.action in HELD]
    held = [
        (one.member.name, one.resume_hint or virsh("", "resume", one.member.name, one.member.uuid))
        for one in paused
    ]
    why = ["the run is gone, and harness recover could not resume these guests"]
    why += [f"{one.member.name}: {one.why}" for one in paused]
    return tell_once(of_dead_run(platform.node(), held, run.folder.path, why), run.folder, settings)


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
