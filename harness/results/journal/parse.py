"""From lines of JSON to entries. Pure; raises nothing, whatever the lines hold.

What cannot be understood is reported as a notice with its line number: an entry of a version or
kind that is not known, one without a field that it must have, a line that is no JSON or no object.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, get_args

from harness.results.journal.entries import VERSION, Entry, Life, Member

#: ``event`` → the kind of entry.
KINDS: dict[str, type[Entry]] = {kind.event: kind for kind in get_args(Entry)}


@dataclass(frozen=True)
class Line:
    """One line of a journal; stamps that a line does not have are 0 or empty."""

    number: int
    event: str
    entry: Entry | None
    """None: of a version or kind that is not known, or without what it must have."""
    data: Mapping[str, Any]
    """As it was written, with what this version does not know."""
    run_id: str = ""
    pid: int = 0
    boottime_ns: int = 0
    """The host's CLOCK_BOOTTIME when it was written."""
    realtime_ns: int = 0


@dataclass(frozen=True)
class Reading:
    """What is in a journal, oldest first; torn lines are left out."""

    lines: tuple[Line, ...] = ()
    notices: tuple[str, ...] = ()
    """What could not be understood, in words."""

    @property
    def entries(self) -> tuple[Entry, ...]:
        """Every entry that was understood."""
        return tuple(line.entry for line in self.lines if line.entry is not None)


def parse(data: bytes) -> Reading:
    """Read the bytes of a journal.

    A line that is no JSON is torn, and left out silently, if it is the last one or if ``torn``
    comes next; else it is damage, and told.
    """
    decoded = [_decoded(line) for line in data.split(b"\n")]
    while decoded and decoded[-1] == "":
        decoded.pop()
    lines: list[Line] = []
    notices: list[str] = []
    for position, one in enumerate(decoded):
        number = position + 1
        if isinstance(one, str):
            after = decoded[position + 1] if number < len(decoded) else None
            if not (after is None or (isinstance(after, dict) and after.get("event") == "torn")):
                notices.append(f"line {number} is damaged: {one or 'it is empty'}")
            continue
        line, notice = _line(number, one)
        lines += [line] if line else []
        notices += [notice] if notice else []
    return Reading(tuple(lines), tuple(notices))


def understood(objects: Iterable[object]) -> Reading:
    """Read entries that were decoded already, as :func:`parse` does."""
    found = [_line(number, one) for number, one in enumerate(objects, start=1)]
    return Reading(
        tuple(line for line, _ in found if line), tuple(notice for _, notice in found if notice)
    )


def _decoded(line: bytes) -> object:
    """What the line holds; of one that is no JSON, why not, as a string."""
    try:
        found = json.loads(line) if line.strip() else ""
    except (ValueError, RecursionError) as error:
        return getattr(error, "msg", None) or type(error).__name__
    return [found] if isinstance(found, str) and found else found  # no JSON string is an object


def _line(number: int, found: object) -> tuple[Line | None, str | None]:
    if not isinstance(found, dict):
        return None, f"line {number} is no object: it is left out"
    event = found.get("event")
    entry, why = _entry(found)
    line = Line(
        number=number,
        event=event if isinstance(event, str) else "",
        entry=entry,
        data=found,
        run_id=_or_default(_text, found.get("run_id"), ""),
        pid=_or_default(_whole, found.get("pid"), 0),
        boottime_ns=_or_default(_whole, found.get("boottime_ns"), 0),
        realtime_ns=_or_default(_whole, found.get("realtime_ns"), 0),
    )
    return line, f"line {number} is not understood: {why}" if why else None


def _entry(data: Mapping[str, Any]) -> tuple[Entry | None, str | None]:
    """(the entry, None) or (None, why it is not understood)."""
    event, version = data.get("event"), data.get("version", VERSION)
    if version != VERSION:
        return None, f"its version is {version!r}, and only {VERSION} is known"
    kind = KINDS.get(event) if isinstance(event, str) else None
    if kind is None:
        return None, f"{event!r} is no known kind of entry"
    fields: dict[str, Any] = {}
    for one in dataclasses.fields(kind):
        if one.name not in data:
            if one.default is dataclasses.MISSING and one.default_factory is dataclasses.MISSING:
                return None, f"{event} without {one.name}"
            continue
        try:
            fields[one.name] = _READERS[str(one.type)](data[one.name])
        except (TypeError, KeyError, OverflowError):
            return None, f"{one.name} of {event} is not {one.type}"
    return kind(**fields), None


def written(entry: Entry) -> dict[str, Any]:
    """``entry`` as the fields of a JSON object, without the stamps."""
    return {"event": entry.event, "version": VERSION, **dataclasses.asdict(entry)}


def _or_default(read: Callable[[object], Any], value: object, default: Any) -> Any:
    try:
        return read(value)
    except TypeError:
        return default


def _text(value: object) -> str:
    if isinstance(value, str):
        return value
    raise TypeError


def _whole(value: object) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    raise TypeError


def _perhaps_whole(value: object) -> int | None:
    return None if value is None else _whole(value)


def _number(value: object) -> float:
    return float(_whole(value)) if not isinstance(value, float) else value


def _truth(value: object) -> bool:
    if isinstance(value, bool):
        return value
    raise TypeError


def _perhaps(value: object) -> str | None:
    return None if value is None else _text(value)


def _texts(value: object) -> tuple[str, ...]:
    if value is None:
        return ()
    if isinstance(value, list):
        return tuple(map(_text, value))
    raise TypeError


def _members(value: object) -> tuple[Member, ...]:
    if isinstance(value, list) and all(isinstance(one, dict) for one in value):
        return tuple(Member(_text(one["name"]), _text(one["uuid"])) for one in value)
    raise TypeError


def _lives(value: object) -> tuple[Life, ...]:
    """Without what is no life: the guests that were to be paused count without it."""
    found = []
    for one in value if isinstance(value, list) else ():
        with suppress(TypeError, KeyError, AttributeError):
            pid, ticks = _whole(one["qemu_pid"]), _whole(one["qemu_start_ticks"])
            found.append(Life(_text(one["uuid"]), pid, ticks, _perhaps_whole(one.get("vcpu_ns"))))
    return tuple(found)


def _words(value: object) -> Mapping[str, str]:
    if isinstance(value, dict):
        return {_text(key): _text(word) for key, word in value.items()}
    raise TypeError


#: By the annotation of a field of an entry.
_READERS: dict[str, Callable[[object], Any]] = {
    "str": _text,
    "str | None": _perhaps,
    "int": _whole,
    "int | None": _perhaps_whole,
    "float": _number,
    "bool": _truth,
    "tuple[str, ...]": _texts,
    "tuple[Member, ...]": _members,
    "tuple[Life, ...]": _lives,
    "Mapping[str, str]": _words,
}
