"""Tell people of guests that a run has left paused: what its guardian starts, and recover does.

A run tells of its guests itself; one that has died cannot. Who has been told of which guests is
kept in the run folder, so that they are notified once, by the first that comes.
"""

from __future__ import annotations

import json
import os
import platform
import sys
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

from harness.core.errors import HarnessError
from harness.core.files import write_atomically
from harness.core.pasteable import virsh
from harness.core.process_state import settle_process
from harness.core.settings import NotifySection
from harness.core.trust import refuse_untrusted
from harness.results.folder import CONFIG, RunFolder
from harness.results.journal import FILE_NAME, fold, read
from harness.results.notify.notice import Notice, of_dead_run
from harness.results.notify.tell import check, tell

#: In the run folder: the guests of which people have been told.
TOLD = "told.json"
_TRIES = (
    "the run is gone, and its guardian could not resume these guests so far; "
    "it goes on trying for some minutes; after that: harness recover"
)
_GAVE_UP = "its guardian could not resume these guests, and has given up: harness recover"


def settings_of(folder: RunFolder) -> NotifySection:
    """Return the run's own ``[notify]``.

    Raises ConfigError for one that another user could have written, or that cannot be used: it
    names programs that are run.
    """
    refuse_untrusted(folder.path / CONFIG)
    settings = folder.config_as_understood()[0].notify
    check(settings)
    return settings


def tell_once(notice: Notice, folder: RunFolder, settings: NotifySection) -> list[str]:
    """Tell of the paused guests of a notice, unless that was done; return what did not work."""
    names = sorted(guest.name for guest in notice.guests if guest.still_paused)
    if names == _told(folder):
        return []
    warnings = tell(notice, settings)
    if not warnings:
        note_told(folder, names)
    return warnings


def note_told(folder: RunFolder, names: Collection[str]) -> None:
    """Keep that people know of these guests. Never raises: they are notified twice then."""
    with suppress(HarnessError):
        write_atomically(folder.path / TOLD, json.dumps(sorted(names)) + "\n")


def _told(folder: RunFolder) -> list[str] | None:
    try:
        found: list[str] = json.loads((folder.path / TOLD).read_bytes())
    except (OSError, ValueError):
        return None
    return found


def main(uri: str, path: str, over: str) -> None:
    """What the guardian's process does: tell of every guest that the journal says is held.

    ``over``: "True" if the guardian does not go on trying.
    """
    settle_process()
    with suppress(OSError):  # the guardian is hard to kill for memory; this need not be
        Path("/proc/self/oom_score_adj").write_text("0")
    folder = RunFolder(Path(path))
    try:
        held = fold(read(folder.path / FILE_NAME)).held
        if held:
            guests = [(one.name, virsh(uri, "resume", one.name, one.uuid)) for one in held]
            why = _GAVE_UP if over == str(True) else _TRIES
            notice = of_dead_run(platform.node(), guests, folder.path, [why])
            for warning in tell_once(notice, folder, settings_of(folder)):
                sys.stderr.write(f"{warning}\n")
    except HarnessError as error:
        sys.stderr.write(f"no notification: {error}\n")
    sys.stderr.flush()
    os._exit(0)


if __name__ == "__main__":
    main(*sys.argv[1:])
