"""Which guests a command is about: names, UUIDs, patterns, all of them, all but some."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import click

from harness.cli.commands import completion
from harness.core.errors import UsageError

F = TypeVar("F", bound=Callable[..., Any])

_OPTIONS: tuple[Callable[[Any], Any], ...] = (
    click.argument("guests", nargs=-1, metavar="[GUEST]...", shell_complete=completion.guests),
    click.option("--all", "all_guests", is_flag=True, help="Every guest of the host that is up."),
    click.option(
        "--except",
        "but",
        multiple=True,
        metavar="GUEST",
        shell_complete=completion.guests,
        help="Leave this guest out, or those of a pattern; repeatable.",
    ),
)


def chosen(guests: Sequence[str], all_guests: bool, but: Sequence[str]) -> tuple[str, ...]:
    """Return what was asked for as :func:`harness.maintenance.named.wanted` reads it.

    Raises UsageError for guests that are named beside ``--all``.
    """
    if all_guests and guests:
        raise UsageError(
            "--all and the names of guests exclude each other", hint="--except leaves guests out"
        )
    return (*(("*",) if all_guests else guests), *(f"!{one}" for one in but))


def guest_arguments(function: F) -> F:
    """Lay ``GUEST...``, ``--all`` and ``--except`` on a command, which is given ``guests``."""

    @functools.wraps(function)
    def with_guests(
        *args: Any, guests: tuple[str, ...], all_guests: bool, but: tuple[str, ...], **rest: Any
    ) -> Any:
        return function(*args, guests=chosen(guests, all_guests, but), **rest)

    laid: Any = with_guests
    for option in reversed(_OPTIONS):
        laid = option(laid)
    return laid  # type: ignore[no-any-return]  # it takes more, and returns the same
