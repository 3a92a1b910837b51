"""Every command that the documentation shows is one: its name, its options and their values."""

from __future__ import annotations

import re

import click
import pytest

from harness.cli.main import cli
from harness.core.errors import HarnessError
from tests.shown import PAGES, ROOT, Shown, commands, lines, shown

_TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
#: Stands for what the reader names, so it has no type.
_PLACEHOLDER = re.compile(r"[A-Z][A-Z./_-]*|…|\$.*")


def wrong(words: tuple[str, ...], in_a_sentence: bool = False) -> str | None:
    """Return what is wrong with a command, or None. A sentence may name an option without value."""
    if words[0] == "make":
        unknown = [w for w in words[1:] if "=" not in w and not w.startswith("-")]
        return next((f"no target {w}" for w in unknown if w not in _TARGETS), None)
    try:
        _understand(cli, click.Context(cli, info_name="harness"), list(words[1:]))
    except click.BadOptionUsage as error:
        return None if in_a_sentence and "requires an argument" in str(error) else str(error)
    except (click.ClickException, HarnessError) as error:
        return error.format_message() if isinstance(error, click.ClickException) else str(error)
    return None


def _context(command: click.Command, name: str, parent: click.Context) -> click.Context:
    return click.Context(command, info_name=name, parent=parent, **command.context_settings)


def _understand(command: click.Command, context: click.Context, words: list[str]) -> None:
    """Read the words as click does, without running anything."""
    values, rest, _ = command.make_parser(context).parse_args(args=list(words))
    if isinstance(command, click.Group):
        if not rest or rest[0] == "COMMAND":
            return
        name, inner, words = command.resolve_command(context, rest)
        _understand(inner, _context(inner, name, context), words)
        return
    for option in command.params:
        value = values.get(option.name)
        given = value if isinstance(value, (list, tuple)) else [value]
        if isinstance(option, click.Argument) or isinstance(option.type, (click.Path, click.File)):
            continue
        for one in given:
            if isinstance(one, str) and not _PLACEHOLDER.fullmatch(one):
                option.type.convert(one, option, context)
    if rest and not any(param.nargs != 0 for param in command.params):
        raise click.UsageError(f"unexpected {rest}")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_command_shown_is_one(page):
    found = [
        f"{one.where}: {' '.join(one.words)}: {why}"
        for one in shown(page)
        if (why := wrong(one.words, one.in_a_sentence))
    ]
    assert found == []


def test_the_pages_show_commands_at_all():
    """Else the test above is about nothing: a block of another kind, a parser that sees none."""
    every = [one.words for page in PAGES for one in shown(page)]
    assert len(every) > 150
    assert {words[1] for words in every if words[0] == "harness" and len(words) > 1} >= {
        *("run", "plan", "doctor", "init", "trust", "recover", "events", "history", "nightly"),
        *("adopt", "hold", "status", "lock", "clock", "config", "report", "lab", "experiment"),
    }


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("harness run web1 --notify 15m", None),
        ("harness run web1 --notifi 15m", "No such option"),
        ("harness run --kind pakages", "pakages"),
        ("harness run --budget soon", "soon"),
        ("harness events aprove ID", "No such command"),
        ("harness runn web1", "no such command"),
        ("sudo .venv/bin/harness plan --al | cat", "No such option"),
        ("X=1 make run && make rum", "no target rum"),
        ("vagrant ssh -c 'harness run --aall'", "No such option"),
    ],
)
def test_a_command_that_is_none_is_found(line, said):
    found = [why for words in commands(line) if (why := wrong(words))]
    assert (said in found[0]) if said else (found == [])


def test_what_a_command_prints_is_no_command():
    assert [line for _, line in lines("$ harness plan \\\n  web1\nharness says\n")] == [
        "harness plan   web1"
    ]
    assert Shown("x", ("harness",)).where == "x"
