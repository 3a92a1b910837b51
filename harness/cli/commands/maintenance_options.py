"""The options of ``run`` and ``plan``: which guests, which update, what limits."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import click

from harness.cli.commands.common import F, connection_options, duration_option, load_config, words
from harness.cli.commands.guest_arguments import guest_arguments
from harness.cli.commands.parameters import OneOf
from harness.cli.commands.refusals import want_rollout
from harness.core.config import Loaded
from harness.core.errors import ConfigError
from harness.core.settings import DEFAULT_METHODS, Access, Scope
from harness.updates.registry import KINDS

_OPTIONS: tuple[Callable[[Any], Any], ...] = (
    click.option(
        "--update", metavar="'CMD ARGS'", help="Apply this command; split into words, no shell."
    ),
    click.option(
        "--kind",
        type=OneOf(lambda: KINDS, what="kind"),
        help="Kind of update.  [default: stand-in; command with --update]",
    ),
    click.option(
        "--scope",
        type=OneOf(tuple(Scope), what="scope"),
        help="What the update needs paused: each guest by itself, or the whole host.",
    ),
    duration_option("--expected", "expected_s", "How long the update should take.", bare=True),
    duration_option("--duration", "duration_s", "How long a stand-in update takes.", bare=True),
    duration_option("--budget", "budget_s", "Longest allowed pause.  [default: 30s]", bare=True),
    duration_option(
        "--reserve",
        "resume_reserve_s",
        "Part of the budget kept for resuming.  [default: 2s]",
        bare=True,
    ),
    click.option(
        "--access",
        type=OneOf(get_args(Access), what="way"),
        help="Way into the guests: SSH, their guest agent, or whichever works.  [default: ssh]",
    ),
    click.option("--spread", type=int, help="Assign guests to this many update domains."),
    click.option("--at-most", type=int, help="Pause no more guests than this together."),
    duration_option("--soak", "soak_s", "How long to wait between update domains."),
)


#: The options of those that tell the guests beforehand.
_NOTICE = (
    duration_option(
        "--notify", "notify", "Announce each pause to the guests, e.g. 15m beforehand."
    ),
    click.option("--time-scale", type=float, help="Notices are this many times shorter."),
)


#: How clocks are corrected: of those that pause guests, now or later.
_CLOCKS = (
    click.option("--no-correct", is_flag=True, help="Measure clocks, but do not correct them."),
    click.option("--allow-backward", is_flag=True, help="Allow setting a fast clock back."),
    click.option(
        "--restore-offset",
        is_flag=True,
        help="Put clocks back to the offset they had before, not to the host's clock.",
    ),
    click.option(
        "--method",
        "methods",
        multiple=True,
        type=OneOf(DEFAULT_METHODS, what="method"),
        help="Correct clocks only by this; repeatable.",
    ),
    duration_option("--watch", "watch_s", "Watch each clock for this long after its correction."),
)


#: What `run` has beside these; `plan` takes all of them too, so that a program has one list.
_RUN = (
    *_CLOCKS,
    click.option(
        "--no-report",
        is_flag=True,
        envvar="HARNESS_NO_REPORT",
        help="Make no report.html and no entry in the history; both can be made later.",
    ),
    click.option(
        "--metrics-file",
        type=click.Path(path_type=Path, dir_okay=False),
        help="Write the figures of runs there, for node_exporter's textfile collector.",
    ),
    click.option("--dry-run", is_flag=True, help="Show the plan and stop; nothing is paused."),
    click.option(
        "--rollout",
        metavar="ID",
        is_eager=True,
        callback=want_rollout,
        help="Do it once under this ID: the same command again waits for it, or finds it done.",
    ),
    click.option(
        "--settings",
        "more",
        hidden=True,
        help="More settings by dotted key, a JSON object; a flag goes before them.",
    ),
    click.option(
        "--detach",
        is_flag=True,
        help="With --rollout: the run goes on when this command, or its terminal, is gone.",
    ),
)


def run_options(function: F) -> F:
    """Lay the options that only ``run`` means something by on a command, and those of a notice."""
    for option in reversed(_RUN):
        function = option(function)
    return notice_options(function)


def notice_options(function: F) -> F:
    """Lay the options of a notice on a command."""
    for option in reversed(_NOTICE):
        function = option(function)
    return function


def clock_options(function: F) -> F:
    """Lay the options about clocks on a command."""
    for option in reversed(_CLOCKS):
        function = option(function)
    return function


def maintenance_options(function: F) -> F:
    """Lay all options of a maintenance on a command."""
    for option in reversed(_OPTIONS):
        function = option(function)
    return connection_options(guest_arguments(function))


def load_maintenance(config_file: Path | None, uri: str | None, options: dict[str, Any]) -> Loaded:
    """Flags of ``run`` and ``plan`` laid over environment and file. Raises ConfigError."""
    return load_config(config_file, maintenance_settings(uri, options))


def maintenance_settings(uri: str | None, options: dict[str, Any]) -> dict[str, Any]:
    """Return the settings that were given as flags, by dotted key. Raises ConfigError."""
    command = options.get("update")
    flags = {
        "uri": uri,
        "budget_s": options.get("budget_s"),
        "resume_reserve_s": options.get("resume_reserve_s"),
        "soak_s": options.get("soak_s"),
        "access": options.get("access"),
        "spread": options.get("spread"),
        "at_most": options.get("at_most"),
        "events.notice_s": options.get("notify"),
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
        "metrics.file": _absolute(options.get("metrics_file")),
    }
    given = {key: value for key, value in flags.items() if value is not None}
    return {**_more(options.get("more")), **given}


def _more(text: str | None) -> dict[str, Any]:
    """Return the settings that another machine has sent along. Raises ConfigError."""
    try:
        found = json.loads(text or "{}")
    except ValueError as error:
        raise ConfigError(f"no JSON: {error}", key="--settings") from error
    if not isinstance(found, dict):
        raise ConfigError("no JSON object", key="--settings")
    return found


def _absolute(file: Path | None) -> str | None:
    """Return a path of the command line as one of a file, whose own are relative to that file."""
    return None if file is None else str(file.absolute())
