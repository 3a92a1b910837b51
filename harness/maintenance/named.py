"""The guests that a person named: all of them, or one error about every one that is not there."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

from harness.core.errors import UnknownGuest
from harness.host.lifecycle import GuestState
from harness.host.protocol import GuestInfo

#: So many running guests are listed; on a host with more, a near name is the better hint.
_LISTED = 12


def pick(known: Sequence[GuestInfo], wanted: Iterable[str], uri: str) -> list[GuestInfo]:
    """Return the guests of those names, else of those UUIDs, in the order of ``wanted``.

    ``known`` are all guests of the host at ``uri``. Raises UnknownGuest, which names all that are
    not among them, names like theirs, and the guests that run.
    """
    names = {info.name: info for info in known}
    uuids = {info.uuid: info for info in known}
    found = [(name, names.get(name) or uuids.get(name)) for name in wanted]
    missing = [name for name, info in found if info is None]
    if missing:
        raise _unknown(missing, known, uri)
    return [info for _, info in found if info is not None]


def chosen(
    known: Sequence[GuestInfo], wanted: Sequence[str], configured: Iterable[str], uri: str
) -> list[GuestInfo]:
    """Return the guests that are wanted, else those configured, else all that run.

    Raises UnknownGuest as :func:`pick` does.
    """
    names = list(wanted) or list(configured)
    if names:
        return pick(known, names, uri)
    return [info for info in known if info.state.state is GuestState.RUNNING]


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
