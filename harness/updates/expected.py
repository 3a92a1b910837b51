"""How long an update took before: read from the records of earlier runs.

What counts is an update that succeeded, of the same kind and with the same settings. The longest
of the newest few is taken: an update that is expected to fit and does not costs a maintenance, one
that is expected to take too long costs a word in the configuration.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from harness.core.errors import UsageError
from harness.core.settings import UpdateSection
from harness.results.folder import RunFolder, all_runs
from harness.updates.protocol import ExpectedDuration
from harness.updates.registry import settings_of

#: So many durations are looked at, in so many of the newest runs.
_DURATIONS = 10
_RUNS = 200
#: Settings that say what is expected of an update, not what it does.
_NOT_WHAT_IT_DOES = {"expected_s", "preserves_memory"}


def learn(state_dir: Path, section: UpdateSection) -> ExpectedDuration | None:
    """Return what the same update took; None if it has not succeeded yet, or needs no telling."""
    if not settings_of(section).learns:
        return None
    durations: list[float] = []
    wanted = _what_it_does(section)
    for number, folder in enumerate(all_runs(state_dir)):
        if number >= _RUNS or len(durations) >= _DURATIONS:
            break
        durations += _durations(folder, wanted)
    return ExpectedDuration(max(durations), len(durations)) if durations else None


def _durations(folder: RunFolder, wanted: dict[str, object]) -> Iterator[float]:
    """Of the update domains of one run, if it was the same update."""
    try:
        did = [_what_it_does(one) for one in folder.config().updates]
        if wanted not in did:
            return
        record = folder.record()  # large, so only where it counts
    except UsageError:
        return  # of another version of harness, or damaged: it teaches nothing
    for domain in record.update_domains:
        if domain.update_returncode != 0:
            continue
        parts = [one.duration_s for one in domain.updates] or [domain.update_s]
        found = (took for what, took in zip(did, parts, strict=False) if what == wanted)
        yield from (took for took in found if took is not None)


def _what_it_does(section: UpdateSection) -> dict[str, object]:
    return settings_of(section).model_dump(exclude=_NOT_WHAT_IT_DOES)
