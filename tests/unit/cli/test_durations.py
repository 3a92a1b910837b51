"""Every option of every command that is a duration is one, and few of them take a bare number."""

from __future__ import annotations

import re
from collections.abc import Iterator

import click
import pytest

from harness.cli.commands.common import duration_option
from harness.cli.commands.parameters import Duration
from harness.cli.main import cli
from scripts.reference import page

#: About the pause itself, whose budget is seconds; anything else a person may mean in minutes.
BARE = {"--budget", "--reserve", "--expected", "--duration", "--tolerance"}
#: What an option of seconds says of itself, by its name or in its help.
_SECONDS = re.compile(
    r"_s$|\b(?:how long|seconds?|longest|minutes?|hours?|timeout|interval)\b", re.IGNORECASE
)
#: Help that speaks of time, of an option that is none: why.
_NO_DURATION = {
    "--since": "a date, or a duration with a unit",
    "--rate": "of something a second",
}


def options(command: click.Command, context: click.Context) -> Iterator[click.Option]:
    """Yield every option with a value of a command and of those below it, hidden ones too."""
    yield from (one for one in command.params if isinstance(one, click.Option) and not one.is_flag)
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            assert inner is not None
            yield from options(inner, click.Context(inner, info_name=name, parent=context))


EVERY = list(options(cli, click.Context(cli, info_name="harness")))


def is_time_without_unit(option: click.Option) -> bool:
    """Return True for an option that a person would write a time for, and that takes no unit."""
    said = bool(_SECONDS.search(option.name or "") or _SECONDS.search(option.help or ""))
    number = isinstance(option.type, click.types.FloatParamType | click.types.IntParamType)
    return said and number and option.opts[0] not in _NO_DURATION


def test_every_option_that_is_a_time_takes_units():
    assert [one.opts for one in EVERY if is_time_without_unit(one)] == []
    assert sum(isinstance(one.type, Duration) for one in EVERY) > 20


def test_a_bare_number_is_taken_for_what_is_about_the_pause_only():
    """A new option wants a unit unless somebody says why not, here and in the reference."""
    taken = {one.opts[0] for one in EVERY if isinstance(one.type, Duration) and one.type.bare}
    assert taken == BARE
    (said,) = re.findall(
        r"A bare number is seconds where.*?(in flags .*?)\. Every", page(), re.DOTALL
    )
    assert set(re.findall(r"`(--\w+)`", said)) == BARE


@pytest.mark.parametrize("default", [one for one in EVERY if isinstance(one.type, Duration)])
def test_defaults_have_a_unit_too(default):
    """A person reads them in ``--help``, and copies what is there."""
    assert default.default is None or not isinstance(default.default, float | int)


def test_an_option_that_would_be_missed_is_found():
    """An int of seconds is; a duration, and a number of guests, are not."""

    @click.command
    @click.option("--pause", "pause_s", type=int)
    @click.option("--patience", type=float, help="How long to wait.")
    @click.option("--guests", type=int, help="How many.")
    @duration_option("--soak", "soak_s", "How long to wait.")
    def command() -> None: ...

    context = click.Context(command)
    found = [one.opts[0] for one in options(command, context) if is_time_without_unit(one)]
    assert found == ["--pause", "--patience"]
    (soak,) = [one for one in options(command, context) if one.opts == ["--soak"]]
    with pytest.raises(click.BadParameter, match="'15' has no unit: write 15s, or 15m"):
        soak.type.convert("15", soak, context)
    assert soak.type.convert("0", soak, context) == 0
