"""The exception tree is what its docstring draws, with the exit codes it promises."""

from __future__ import annotations

import inspect

import pytest

from harness.core import errors
from harness.core.errors import GuestStranded, HarnessError, Interrupted, UsageError

TREE = [
    member
    for _, member in inspect.getmembers(errors, inspect.isclass)
    if issubclass(member, HarnessError)
]


@pytest.mark.parametrize("kind", TREE)
def test_every_error_is_in_the_drawing(kind):
    """Nobody adds an error without saying where it belongs."""
    assert kind.__name__ in errors.__doc__


def test_exit_codes_follow_the_table():
    """2 usage, 4 stranded, 130 interrupted, 3 for whatever could not be judged."""
    for kind in TREE:
        expected = 3
        if issubclass(kind, UsageError):
            expected = 2
        elif kind is GuestStranded:
            expected = 4
        elif kind is Interrupted:
            expected = 130
        assert kind.exit_code == expected


def test_a_message_says_guest_what_and_hint():
    """One line: who, what, what to do."""
    error = HarnessError("is paused", guest="web-2", hint="resume it")
    assert str(error) == "web-2: is paused (hint: resume it)"
