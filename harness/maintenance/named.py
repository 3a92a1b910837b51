"""The guests that a person named: all of them, or one error about every one that is not there.

A name may be a pattern, as a shell has them: ``web*`` stands for guests that are up. After a ``!``
it leaves guests out. A guest that is really called so is meant first.
"""

from __future__ import annotations

import difflib
import fnmatch
import re
from collections.abc import Iterable, Sequence

from harness.core.errors import UnknownGuest
from harness.host.lifecycle import GuestState
from harness.host.protocol import GuestInfo

#: So many running guests are listed; on a host with more, a near name is the better hint.
_LISTED = 12


#: What a pattern stands for: a guest that is off is left alone, one that cannot be paused is not.
_DOWN = (GuestState.SHUT_OFF, GuestState.CRASHED, GuestState.GONE)
_BUT = "!"


def is_pattern(name: str) -> bool:
    """Return True if ``name`` may stand for other guests than one of that name."""
    return name.startswith(_BUT) or re.search(r"[*?[]", name) is not None


def wanted(names: Sequence[str], configured: Iterable[str]) -> list[str]:
    """Return the names asked for; those ``configured`` where none is, or only some left out."""
    asked = any(not name.startswith(_BUT) for name in names)
    return [*(() if asked else configured), *names]


def pick(known: Sequence[GuestInfo], wanted: Iterable[str], uri: str) -> list[GuestInfo]:
    """Return the guests of those names, UUIDs or patterns, in the order of ``wanted``.

    ``known`` are all guests of the host at ``uri``. Raises UnknownGuest, which names all that are
    not among them, names like theirs, and the guests that run.
    """
    chosen: list[GuestInfo] = []
    left_out: set[str] = set()
    missing: list[str] = []
    for name in wanted:
        found, but = _fitting(known, name), False
        if not found and name.startswith(_BUT):
            name, but = name.removeprefix(_BUT), True
            found = _fitting(known, name)
        if not found:
            missing.append(name)
        elif but:
            left_out |= {info.uuid for info in found}
        else:
            chosen += [info for info in found if not is_pattern(name) or info not in chosen]
    if missing:
        raise _unknown(missing, known, uri)
    return [info for info in chosen if info.uuid not in left_out]


def _fitting(known: Sequence[GuestInfo], name: str) -> list[GuestInfo]:
    """Return the guest of that name, else of that UUID, else those of that pattern."""
    for key in ("name", "uuid"):
        exactly = [info for info in known if getattr(info, key) == name]
        if exactly:
            return exactly
    if name.startswith(_BUT) or not is_pattern(name):
        return []
    up = [info for info in known if info.state.state not in _DOWN]
    return [info for info in up if fnmatch.fnmatchcase(info.name, name)]


def chosen(
    known: Sequence[GuestInfo], asked: Sequence[str], configured: Iterable[str], uri: str
) -> list[GuestInfo]:
    """Return the guests asked for, else those configured, else all that run.

    Raises UnknownGuest as :func:`pick` does.
    """
    names = wanted(asked, configured)
    if all(name.startswith(_BUT) for name in names):
        running = [info.uuid for info in known if info.state.state is GuestState.RUNNING]
        names = [*running, *names]
    return pick(known, names, uri)


def _unknown(missing: Sequence[str], known: Sequence[GuestInfo], uri: str) -> UnknownGuest:
    names = [info.name for info in known]
    hints = []
    for name in missing:
        near = sorted(difflib.get_close_matches(name, names, n=3))
        if near:
            like = " or ".join(repr(one) for one in near)
            meant = f" by {name!r}" if len(missing) > 1 else ""
            hints.append(f"did you mean {like}{meant}?")
    running = [info.name for info in known if info.state.state is GuestState.RUNNING]
    more = f" and {len(running) - _LISTED} more" if len(running) > _LISTED else ""
    hints.append(
        f"running there: {', '.join(running[:_LISTED])}{more}" if running else "no guest runs there"
    )
    one = missing[0] if len(missing) == 1 else None
    said = f"no such guest on {uri}" if one else f"no such guests on {uri}: {', '.join(missing)}"
    return UnknownGuest(said, operation="looking up", guest=one, hint=" ".join(hints))
