"""Types of parameters that click has not: durations, and choices that know what was meant."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem

from harness.core.durations import parse
from harness.core.nearest import nearest


class Hinted(click.BadParameter):
    """A value that is refused, with a hint."""

    def __init__(self, message: str, hint: str, **where: Any) -> None:
        super().__init__(message, **where)
        self.hint = hint


class Duration(click.ParamType[float]):
    """``5ms``, ``60s``, ``15m``, ``2h``; gives seconds."""

    name = "duration"

    def __init__(self, *, bare: bool = False) -> None:
        """``bare``: whether a number without a unit is taken for seconds."""
        self.bare = bare

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Return the seconds. Raises BadParameter."""
        if isinstance(value, float | int):
            return float(value)
        try:
            return parse(str(value), bare=self.bare)
        except ValueError as error:
            self.fail(str(error), param, ctx)

    def get_metavar(self, param: click.Parameter, ctx: click.Context | None = None) -> str:
        """Return what help shows for the value."""
        return "DURATION"


class OneOf(click.ParamType[str]):
    """One of some words; a word that is none is refused with the nearest."""

    name = "choice"

    def __init__(
        self,
        words: Sequence[str] | Callable[[], Iterable[str]],
        *,
        what: str,
        metavar: str | None = None,
        suffix: str | None = None,
    ) -> None:
        """Take one of ``words``, or of what it returns when it is called.

        Args:
            words: The words; a function where it takes long to know them.
            what: What one is called.
            metavar: What help shows for the value; None: all words.
            suffix: What may follow a word, after this: ``slow:5s`` is ``slow``.
        """
        self._given, self._what, self._metavar, self._suffix = words, what, metavar, suffix

    @property
    def words(self) -> tuple[str, ...]:
        """The words, in the order in which they are shown."""
        return tuple(map(str, self._given() if callable(self._given) else self._given))

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return ``value`` if it is one. Raises Hinted."""
        text = str(value)
        word = text.partition(self._suffix)[0] if self._suffix else text
        if word not in self.words:
            hint = nearest(word, self.words, f"{self._what}s")
            raise Hinted(f"unknown {self._what} {word!r}", hint, ctx=ctx, param=param)
        return text

    def get_metavar(self, param: click.Parameter, ctx: click.Context | None = None) -> str:
        """Return what help shows for the value."""
        return self._metavar or f"[{'|'.join(self.words)}]"

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """Return the words that begin so."""
        return [CompletionItem(word) for word in self.words if word.startswith(incomplete)]


class PlotFile(click.Path):
    """A file for a picture; its ending says in which format."""

    name = "file"

    def __init__(self) -> None:
        super().__init__(path_type=Path, dir_okay=False)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        """Return the file. Raises BadParameter for an ending that is no format of a picture."""
        from harness.results.report.plots import ENDINGS

        file = Path(os.fsdecode(super().convert(value, param, ctx)))
        if file.suffix.lower() not in ENDINGS:
            ends = f"ends in {file.suffix}" if file.suffix else "has no ending"
            self.fail(f"{file.name!r} {ends}: expected {', '.join(ENDINGS)}", param, ctx)
        return file
