"""What a scheduled maintenance is to do: guests and settings, stored as data.

Earlier versions stored the words of a ``harness run``, which are still read.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

#: Option of ``harness run`` → the setting that it stands for, and what its text means.
_OPTIONS: Mapping[str, tuple[str, type]] = {
    "--update": ("update.command", tuple),
    "--kind": ("update.kind", str),
    "--scope": ("update.scope", str),
    "--expected": ("update.expected_s", float),
    "--duration": ("update.duration_s", float),
    "--budget": ("budget_s", float),
    "--reserve": ("resume_reserve_s", float),
    "--spread": ("spread", int),
    "--at-most": ("at_most", int),
    "--soak": ("soak_s", float),
    "--time-scale": ("events.time_scale", float),
    "--uri": ("uri", str),
    "--access": ("access", str),
    "--method": ("clock.methods", tuple),
    "--watch": ("clock.watch_s", float),
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
            for value in self._values(key):
                yield flag
                yield value
        yield from (flag for flag, (key, on) in _SWITCHES.items() if self.settings.get(key) is on)

    def _values(self, key: str) -> Iterator[str]:
        value = self.settings.get(key)
        if key == "update.command" and value is not None:
            yield shlex.join(value)
        elif isinstance(value, list | tuple):
            yield from map(str, value)
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
        key, kind = _OPTIONS.get(flag, (flag, str))
        text = left.pop(0) if left else ""
        settings[key] = shlex.split(text) if kind is tuple else kind(text)
    if "update.command" in settings:
        settings.setdefault("update.kind", "command")
    return Order(tuple(left), settings)
