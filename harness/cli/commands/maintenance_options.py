"""The options of ``run`` and ``plan``: which guests, which update, what limits."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from harness.cli.commands.common import F, connection_options, load_config, words
from harness.core.config import Loaded
from harness.core.durations import parse
from harness.core.errors import UsageError

_OPTIONS: tuple[Callable[[Any], Any], ...] = (
    click.argument("guests", nargs=-1, metavar="[GUEST]..."),
    click.option(
        "--update", metavar="'CMD ARGS'", help="Apply this command; split into words, no shell."
    ),
    click.option("--kind", help="Kind of update: stand-in (default), command, packages, …"),
    click.option("--scope", help="What the update needs paused: guest (each its own) or host."),
    click.option("--expected", "expected_s", type=float, help="Seconds the update should take."),
    click.option("--duration", "duration_s", type=float, help="Seconds a stand-in update takes."),
    click.option("--budget", "budget_s", type=float, help="Longest allowed pause in seconds (30)."),
    click.option("--reserve", "resume_reserve_s", type=float, help="Kept for resuming (2)."),
    click.option("--spread", type=int, help="Assign guests to this many update domains."),
    click.option("--at-most", type=int, help="Pause no more guests than this together."),
    click.option("--soak", "soak_s", type=float, help="Seconds to wait between update domains."),
)


#: The options of those that tell the guests beforehand.
_NOTICE = (
    click.option(
        "--notify", metavar="TIME", help="Announce each pause to the guests, 15m beforehand."
    ),
    click.option("--time-scale", type=float, help="Notices are this many times shorter."),
)


def notice_options(function: F) -> F:
    """Lay the options of a notice on a command."""
    for option in reversed(_NOTICE):
        function = option(function)
    return function


def maintenance_options(function: F) -> F:
    """Lay all options of a maintenance on a command."""
    for option in reversed(_OPTIONS):
        function = option(function)
    return connection_options(function)


def load_maintenance(config_file: Path | None, uri: str | None, options: dict[str, Any]) -> Loaded:
    """Flags of ``run`` and ``plan`` laid over environment and file. Raises ConfigError."""
    return load_config(config_file, maintenance_settings(uri, options))


def maintenance_settings(uri: str | None, options: dict[str, Any]) -> dict[str, Any]:
    """Return the settings that were given as flags, by dotted key. Raises UsageError."""
    command = options.get("update")
    flags = {
        "uri": uri,
        "budget_s": options.get("budget_s"),
        "resume_reserve_s": options.get("resume_reserve_s"),
        "soak_s": options.get("soak_s"),
        "spread": options.get("spread"),
        "at_most": options.get("at_most"),
        "events.notice_s": seconds(options.get("notify"), "--notify"),
        "events.time_scale": options.get("time_scale"),
        "update.kind": options.get("kind") or ("command" if command is not None else None),
        "update.command": list(words(command, "--update")) if command is not None else None,
        "update.scope": options.get("scope"),
        "update.expected_s": options.get("expected_s"),
        "update.duration_s": options.get("duration_s"),
        "clock.correct": False if options.get("no_correct") else None,
        "clock.allow_backward": True if options.get("allow_backward") else None,
        "clock.restore_offset": True if options.get("restore_offset") else None,
        "clock.methods": list(options.get("methods") or ()) or None,
        "clock.watch_s": options.get("watch_s"),
    }
    return {key: value for key, value in flags.items() if value is not None}


def seconds(text: str | None, what: str) -> float | None:
    """A duration as people write it. Raises UsageError."""
    try:
        return None if text is None else parse(text)
    except ValueError as error:
        raise UsageError(f"{what}: {error}") from error
