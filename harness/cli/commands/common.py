"""What the commands share: options, configuration, consoles, JSON on stdout."""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from harness.cli.commands.parameters import Duration
from harness.cli.commands.refusals import Spoken, want_json
from harness.cli.flags import FLAGS
from harness.core.errors import ConfigError
from harness.core.streams import forget_lost_output
from harness.results.report.spoken import printable

if TYPE_CHECKING:  # a command that needs no configuration should not have to load it
    from rich.console import Console

    from harness.core.config import Loaded

_FILE_WIDTH = 120
#: By these rich takes for a terminal what is none.
_FORCED = ("FORCE_COLOR", "TTY_COMPATIBLE")
_log = logging.getLogger(__name__)

F = TypeVar("F", bound=Callable[..., Any])

config_option = click.option(
    "-c",
    "--config",
    "config_file",
    type=click.Path(path_type=Path, dir_okay=False),
    envvar="HARNESS_CONFIG",
    help="Configuration file. Default: ./harness.toml, then the user's and the system's, then "
    "that of a lab that is up.",
)
uri_option = click.option("--uri", help="libvirt connection, e.g. qemu:///system.")
show_config_option = click.option(
    "--show-config",
    is_flag=True,
    help="Show the configuration in force as TOML, and where each value came from.",
)
json_option = click.option(
    "--json",
    "as_json",
    is_flag=True,
    is_eager=True,
    callback=want_json,
    help="Print the result, or the error, as JSON.",
)


def duration_option(
    flag: str, name: str, explained: str, *, bare: bool = False, **more: Any
) -> Callable[[F], F]:
    """An option that takes a duration and gives seconds.

    ``bare``: whether a number without a unit is taken for seconds. Only what is measured against a
    pause of seconds is that; of any other, a person who writes 15 may mean minutes.
    """
    return click.option(flag, name, type=Duration(bare=bare), help=explained, **more)


def connection_options(function: F) -> F:
    """``-c/--config`` and ``--uri``."""
    return config_option(uri_option(function))


def out() -> Console:
    """Where results go. Colour only on a terminal; NO_COLOR is honoured by rich."""
    from rich.console import Console

    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = _FILE_WIDTH  # a file or a pipe has no width to fit
    return console


def err() -> Console:
    """Where everything goes that is not the result."""
    from rich.console import Console

    return Console(stderr=True, highlight=False)


def moving() -> bool:
    """Whether stderr can show what moves. rich is not loaded where there can be no terminal."""
    there = any(os.environ.get(name) for name in _FORCED)
    with suppress(AttributeError, ValueError):  # it was closed
        there = there or sys.stderr.isatty()
    return there and err().is_terminal


def say(line: str) -> None:
    """One line beside the result, as it is: names and paths in it are data."""
    click.echo(printable(line), err=True)


@contextmanager
def looking(what: str) -> Iterator[None]:
    """Show on a terminal that something is looked at, and for how long; then no trace of it."""
    if not moving():
        yield
        return
    from harness.cli.live import waiting

    with waiting(what, err()):
        yield


@contextmanager
def spoken() -> Iterator[None]:
    """Print what is to be said of something that is done; nothing that fails here is raised.

    Neither the reader nor the disk, the encoding, a bug or a person's Ctrl-C changes what was done
    or the exit code.
    """
    try:
        yield
    except BaseException as error:  # noqa: BLE001  a SystemExit of rich, a Ctrl-C
        _log.warning("output was lost: %s: %s", type(error).__name__, error)
    forget_lost_output()


def print_json(result: Any) -> None:
    """The result for programs: one JSON document on stdout."""
    Spoken.said = True
    click.echo(json.dumps(result, indent=2, default=str))


def load_config(file: Path | None, flags: Mapping[str, Any]) -> Loaded:
    """Return the configuration in force. Raises ConfigError."""
    from harness import api

    loaded = api.load_config(file, flags, typed=FLAGS, tell=say)
    _log.info("configuration: %s; libvirt: %s", loaded.file or "no file", loaded.config.uri)
    return loaded


def show_config(loaded: Loaded, as_json: bool) -> None:
    """What is in force and where it came from: TOML that can be pasted, or JSON."""
    rows = [{"key": k, "value": v, "from": origin} for k, v, origin in loaded.shown()]
    if as_json:
        print_json(rows)
        return
    from harness.core.config_text import as_toml

    click.echo(as_toml(loaded), nl=False)


def words(text: str | None, what: str) -> tuple[str, ...]:
    """Split a command line as a shell splits words; nothing is given to a shell."""
    import shlex

    try:
        return tuple(shlex.split(text or ""))
    except ValueError as error:
        raise ConfigError(f"cannot be split into words: {error}", key=what) from error
