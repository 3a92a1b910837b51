"""What a scheduled maintenance is to do: guests and settings, stored as data.

Earlier versions stored the words of a ``harness run``, which are still read.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from harness.core.durations import parse


def _seconds(text: str) -> float:
    """Return the seconds of a duration; an earlier version wrote it without a unit."""
    return parse(text, bare=True)


#: Option of ``harness run`` → the setting that it stands for, and what its text means.
_OPTIONS: Mapping[str, tuple[str, Callable[[str], Any]]] = {
    "--update": ("update.command", shlex.split),
    "--kind": ("update.kind", str),
    "--scope": ("update.scope", str),
    "--expected": ("update.expected_s", _seconds),
    "--duration": ("update.duration_s", _seconds),
    "--budget": ("budget_s", _seconds),
    "--reserve": ("resume_reserve_s", _seconds),
    "--spread": ("spread", int),
    "--at-most": ("at_most", int),
    "--soak": ("soak_s", _seconds),
    "--time-scale": ("events.time_scale", float),
    "--uri": ("uri", str),
    "--access": ("access", str),
    "--method": ("clock.methods", shlex.split),
    "--watch": ("clock.watch_s", _seconds),
}
#: Options without a value → the setting, and what it is set to.
_SWITCHES: Mapping[str, tuple[str, bool]] = {
    "--no-correct": ("clock.correct", False),
    "--allow-backward": ("clock.allow_backward", True),
    "--restore-offset": ("clock.restore_offset", True),
}


@dataclass(frozen=True)
class Order:
    """Guests (none: those of the configuration) and what is laid over their configuration."""

    guests: tuple[str, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Dotted keys of harness.toml."""

    def as_json(self) -> str:
        """Return what ``read`` reads."""
        return json.dumps({"guests": self.guests, "settings": dict(self.settings)})

    @classmethod
    def read(cls, text: str) -> Order:
        """Return the order that was stored as ``text``, by this version or an earlier one."""
        stored = json.loads(text)
        if isinstance(stored, list):
            return _from_words(stored)
        return cls(tuple(stored["guests"]), stored["settings"])

    def words(self) -> tuple[str, ...]:
        """Return the arguments of a ``harness run`` that does the same, for people to read."""
        return (*self._flags(), "--", *self.guests)

    def _flags(self) -> Iterator[str]:
        for flag, (key, _) in _OPTIONS.items():
            for value in self._values(flag, key):
                yield flag
                yield value
        yield from (flag for flag, (key, on) in _SWITCHES.items() if self.settings.get(key) is on)

    def _values(self, flag: str, key: str) -> Iterator[str]:
        value = self.settings.get(key)
        if key == "update.command" and value is not None:
            yield shlex.join(value)
        elif isinstance(value, list | tuple):
            yield from map(str, value)
        elif _OPTIONS[flag][1] is _seconds and value is not None:
            yield f"{value:.12g}s"
        elif value is not None:
            yield str(value)


def _from_words(words: Sequence[str]) -> Order:
    """An option that is not known becomes a key that is not: the run refuses it, by its name."""
    left = list(words)
    settings: dict[str, Any] = {}
    while left and left[0].startswith("--"):
        flag = left.pop(0)
        if flag == "--":
            break
        key, means = _OPTIONS.get(flag, (flag, str))
        text = left.pop(0) if left else ""
        settings[key] = means(text)
    if "update.command" in settings:
        settings.setdefault("update.kind", "command")
    return Order(tuple(left), settings)
