"""``sweep.toml`` → the cells of a grid, in a random order that can be had again.

::

    repeats = 5
    seed = 20260101                      # default: drawn, and recorded
    [settings]                           # as in harness.toml, for every run
    budget_s = 20.0
    [grid]                               # every combination is run ``repeats`` times
    guests = [["web1"], ["web1", "web2"]]
    update.duration_s = [1.0, 5.0, 10.0]
    clock.correct = [true, false]

An axis is ``guests``, or any setting of ``harness.toml`` by its dotted name.
"""

from __future__ import annotations

import hashlib
import itertools
import random
import secrets
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from harness.core.config import overlaid
from harness.core.durations import parse
from harness.core.errors import ConfigError
from harness.core.keys import list_keys, scalar_keys
from harness.core.nearest import did_you_mean
from harness.core.settings import Config
from harness.core.trust import refuse_untrusted
from harness.updates.registry import FULL_CONFIG

GUESTS = "guests"


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    repeats: int = Field(default=1, ge=1, le=10_000)
    seed: int | None = None
    settings: dict[str, Any] = Field(default_factory=dict)
    grid: dict[str, Any] = Field(default_factory=dict)


@dataclass(frozen=True)
class Cell:
    """One maintenance to be carried out."""

    number: int
    """Its place in the random order, from 0."""
    repeat: int
    guests: tuple[str, ...]
    settings: Mapping[str, Any]
    """Dotted key → value: the axes."""

    def described(self) -> str:
        """For people."""
        axes = [f"{key}={value}" for key, value in self.settings.items()]
        return "  ".join([f"guests={','.join(self.guests) or 'configured'}", *axes])


@dataclass(frozen=True)
class Sweep:
    """A whole experiment."""

    name: str
    """Of the file, with a digest of what is in it: another content is another experiment."""
    text: str
    seed: int | None
    repeats: int
    settings: Mapping[str, Any]
    axes: Mapping[str, Sequence[Any]]

    def cells(self, seed: int) -> list[Cell]:
        """Every cell of the grid ``repeats`` times, in the order that ``seed`` means."""
        others = {key: values for key, values in self.axes.items() if key != GUESTS}
        grid = [
            (repeat, tuple(guests), dict(zip(others, values, strict=True)))
            for repeat in range(self.repeats)
            for guests in self.axes.get(GUESTS, [()])
            for values in itertools.product(*others.values())
        ]
        random.Random(seed).shuffle(grid)
        return [Cell(number, *cell) for number, cell in enumerate(grid)]

    def config(self, base: Config, cell: Cell) -> Config:
        """What that cell is run with. Raises ConfigError."""
        return overlaid(base, {**self.settings, **cell.settings}, FULL_CONFIG)


def load(file: Path) -> Sweep:
    """Read ``sweep.toml``. Raises ConfigError."""
    refuse_untrusted(file)
    try:
        text = file.read_text(encoding="utf-8")
        content = _File.model_validate(tomllib.loads(text))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot be read: {error}", file=file) from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"not valid TOML: {error}", file=file) from error
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise ConfigError(first["msg"], file=file, key=key) from error
    digest = hashlib.sha256(text.encode()).hexdigest()[:8]
    axes = _flat(content.grid)
    for key, values in axes.items():
        _check(file, key, values)
        if key.endswith("_s"):
            axes[key] = [_seconds(file, key, value) for value in values]
    name = f"{file.stem}-{digest}"
    return Sweep(name, text, content.seed, content.repeats, _flat(content.settings), axes)


def new_seed() -> int:
    """A seed that people can copy."""
    return secrets.randbelow(1_000_000)


def _flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, dict):
            found.update(_flat(value, f"{prefix}{key}."))
        else:
            found[f"{prefix}{key}"] = value
    return found


def _check(file: Path, key: str, values: Any) -> None:
    """An axis is a list of values, of lists where one value is a list."""
    known = [name for name, _ in scalar_keys(FULL_CONFIG)]
    lists = [GUESTS, *list_keys(FULL_CONFIG)]
    if key not in (*lists, *known):
        usual = f"axes: {GUESTS}, or a setting of harness.toml such as update.duration_s"
        hint = did_you_mean(key, (*lists, *known)) or usual
        raise ConfigError("unknown axis", file=file, key=f"grid.{key}", hint=hint)
    if not isinstance(values, list) or not values:
        raise ConfigError("an axis is a list of values", file=file, key=f"grid.{key}")
    if key in lists and not all(_is_words(value) for value in values):
        raise ConfigError(
            "is a list of lists of words",
            file=file,
            key=f"grid.{key}",
            hint=f'{key} = [["a"], ["a", "b"]]',
        )


def _seconds(file: Path, key: str, value: Any) -> Any:
    """A duration as it is compared and drawn."""
    try:
        return parse(value) if isinstance(value, str) else value
    except ValueError as error:
        raise ConfigError(str(error), file=file, key=f"grid.{key}") from error


def _is_words(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(word, str) for word in value)
