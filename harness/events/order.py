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
            value = self.settings.get(key)
            if value is not None:
                yield flag
                yield shlex.join(value) if key == "update.command" else str(value)


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
