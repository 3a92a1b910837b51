"""What `harness recover` says in the end, of what was looked at and of nothing else. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from harness.maintenance.recovery.paused_guests import described
from harness.maintenance.recovery.round import Recovery


def told(found: Recovery) -> Iterator[str]:
    """Yield what is to be said beside the table of runs, before its summary."""
    yield from found.notes
    yield from _of_runs(found)
    for guest in found.paused:
        yield f"{guest.name} is {guest.reading} on {guest.uri}: {guest.known}"
        if guest.held_by is None:
            yield f"  it was not resumed; if it should run: {guest.resume_hint}"
    yield from _not_done(found)


def _of_runs(found: Recovery) -> Iterator[str]:
    for run in found.runs:
        yield from (f"run {run.folder.run_id}: {note}" for note in run.notes)
        for guest in run.guests:
            if guest.resume_hint:
                yield f"{guest.member.name}: if it should run: {guest.resume_hint}"


def _not_done(found: Recovery) -> Iterator[str]:
    paused = {guest.held_by for guest in found.paused}
    for folder in found.not_followed:
        if folder not in paused:
            yield f"not followed, {described(folder)}"
    for place in found.searched:
        if place.refused is not None:
            yield f"not searched: {place.state_dir}: {place.refused}"
    for uri, error in found.not_looked_at:
        yield f"guests of {uri} were not looked at: {error}"


def summary(found: Recovery) -> str:
    """Return the last line: who was resumed, and who is paused as far as was looked."""
    parts = [_dead(found)]
    if found.resumed:
        parts.append(f"{_count(len(found.resumed), 'guest')} resumed")
    if found.looked_at:
        where = ", ".join(found.looked_at)
        now = len(found.still_paused) + sum(one.held_by is None for one in found.paused)
        said = "no guest is" if now == 0 else "1 guest is" if now == 1 else f"{now} guests are"
        parts.append(f"{said} paused now (looked at all of {where})")
    else:
        parts.append("no guest was looked at")
    return "; ".join(parts)


def _dead(found: Recovery) -> str:
    searched = ", ".join(str(one.state_dir) for one in found.searched if one.refused is None)
    where = f"in {searched}" if searched else "anywhere"
    return f"{_count(len(found.runs), 'dead run')} {where}"


def _count(number: int, what: str) -> str:
    return f"{number or 'no'} {what}{'' if number == 1 else 's'}"
