"""How a command says that it failed: one voice for click's errors and ours, as text or as JSON."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator

import click

from harness.core.errors import (
    ConfigError,
    GuestStranded,
    HarnessError,
    SeveralFailed,
    SeveralRefused,
    UsageError,
    lines_of,
    rollout_exit_code,
)

_ROLLOUT = "--rollout"


class Spoken:
    """What this process was asked for, and has said, as JSON."""

    wanted = False
    """``--json`` was given."""
    said = False
    """A document is on stdout: a second one beside it would make both useless."""
    told: HarnessError | None = None
    """The last error that stderr has had."""
    rollout: str | None = None
    """The ID that was given with ``--rollout``."""


def want_json(ctx: click.Context, param: click.Parameter, value: bool) -> bool:
    """Take note of ``--json`` (a callback of the option)."""
    Spoken.wanted = Spoken.wanted or value
    return value


def want_rollout(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    """Take note of ``--rollout`` (a callback of the option)."""
    Spoken.rollout = value if value is not None else Spoken.rollout
    return value


def note_what_was_asked_for(error: click.ClickException, arguments: list[str]) -> None:
    """Take note of ``--json`` and ``--rollout`` where a command's arguments could not be read."""
    Spoken.wanted = Spoken.wanted or _json_was_asked_for(error, arguments)
    if Spoken.rollout is None and _of_a_host(error):
        Spoken.rollout = next(_rollouts(arguments), None)


def _rollouts(arguments: list[str]) -> Iterator[str]:
    for number, word in enumerate(arguments):
        if word == _ROLLOUT:
            yield from arguments[number + 1 : number + 2]
        elif word.startswith(f"{_ROLLOUT}="):
            yield word.partition("=")[2]


def _of_a_host(error: click.ClickException) -> bool:
    """Return True if the command is a host's part of a rollout."""
    return any(one.callback is want_rollout for one in _options(error))


def _has(error: click.ClickException, option: str) -> bool:
    return any(option in one.opts for one in _options(error))


def _options(error: click.ClickException) -> list[click.Parameter]:
    context = getattr(error, "ctx", None)
    command = getattr(error, "cmd", None) or getattr(context, "command", None)
    return command.params if command is not None else []


def _json_was_asked_for(error: click.ClickException, arguments: list[str]) -> bool:
    """Return True if the command whose arguments could not be read has ``--json`` among them."""
    return _has(error, "--json") and "--json" in arguments


def in_our_words(error: click.ClickException) -> HarnessError:
    """Return an error of click's as a HarnessError: what, where, and a hint."""
    message = error.message.strip().removesuffix(".")
    hint = getattr(error, "hint", None)
    near = getattr(error, "possibilities", None)
    context = getattr(error, "ctx", None)
    if near:
        hint = "did you mean " + " or ".join(map(repr, sorted(near)[:3])) + "?"
        message = message.partition(" Did you mean")[0].partition(" (Possible")[0]
    if hint is None and context is not None:
        hint = f"{context.command_path} --help"
    if isinstance(error, click.MissingParameter) and error.param is not None:
        return UsageError(f"missing {_name_of(error.param)}", hint=hint)
    if isinstance(error, click.BadParameter) and error.param is not None:
        return ConfigError(message, key=_name_of(error.param), hint=hint)
    return UsageError(message[:1].lower() + message[1:], hint=hint)


def _name_of(param: click.Parameter) -> str:
    """Return a parameter as a person types it: ``--budget``, or the argument's place."""
    if isinstance(param, click.Option):
        return max(param.opts, key=len)
    return param.human_readable_name.strip("[]")


def exit_code_of(error: HarnessError) -> int:
    """Return the exit code of an error that ends the command; no guest was paused by a rollout."""
    return error.exit_code if Spoken.rollout is None else rollout_exit_code(error)


def tell_error(error: HarnessError) -> None:
    """Say on stderr what went wrong, in one line with its hint; on a terminal a line a guest."""
    from harness.results.report.words import printable

    Spoken.told = error
    loud = isinstance(error, GuestStranded)
    click.secho("harness: ", nl=False, err=True, bold=True, fg="red" if loud else None)
    if isinstance(error, SeveralFailed | SeveralRefused) and sys.stderr.isatty():
        click.echo(f"{len(error.by_guest)} guests:", err=True)
        for line in lines_of(error.by_guest):
            click.echo(f"  {printable(line)}", err=True)
        return
    click.secho(printable(str(error)), err=True, bold=loud, fg="red" if loud else None)


def print_error(error: HarnessError) -> None:
    """Print the error on stdout as JSON, where JSON was asked for and none is there yet."""
    if not Spoken.wanted or Spoken.said:
        return
    Spoken.said = True
    from harness.results.answer import Answer, ErrorRecord

    if Spoken.rollout is None:
        told = {**ErrorRecord.of(error).model_dump(), "exit_code": error.exit_code}
        click.echo(json.dumps({"error": told}, indent=2, default=str))
        return
    click.echo(Answer.refusal(Spoken.rollout, error).model_dump_json(indent=2))
