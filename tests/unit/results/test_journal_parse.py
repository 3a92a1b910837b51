"""From lines to entries: what cannot be understood is told, and ends nothing."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from typing import get_args

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some

from harness.results.journal import Custody, Life, Member, fold, read
from harness.results.journal.entries import VERSION, Entry, Paused, Pausing, Recovered, Resumed
from harness.results.journal.parse import _READERS, KINDS, parse, understood, written

HERE = Path(__file__).parent
PAGE = Path(__file__).parents[3] / "docs" / "reference" / "journal.md"
INTENT = {"event": "pausing", "guests": [{"name": "a", "uuid": "u"}]}


def lines(*told: object) -> bytes:
    return b"".join(
        (one if isinstance(one, bytes) else json.dumps(one).encode()) + b"\n" for one in told
    )


@pytest.mark.parametrize("kind", get_args(Entry), ids=lambda kind: kind.event)
def test_what_is_written_is_read(kind):
    """Every kind, with every field set."""
    values = {
        "str": "x", "str | None": None, "int": 7, "int | None": 8, "float": 2.5, "bool": True,
        "tuple[str, ...]": ("x", "y"), "tuple[Member, ...]": (Member("a", "u"),),
        "tuple[Life, ...]": (Life("u", 1, 2, 3),),
        "Mapping[str, str]": {"a": "resumed"},
    }  # fmt: skip
    assert values.keys() == _READERS.keys()
    entry = kind(**{field.name: values[str(field.type)] for field in dataclasses.fields(kind)})
    data = json.loads(json.dumps(written(entry)))
    assert (data["event"], data["version"]) == (kind.event, VERSION)
    assert understood([data]).entries == (entry,)


def test_a_journal_without_versions_is_read():
    """Written by the harness of before: killed in the window, resumed by its guardian."""
    reading = read(HERE / "data" / "journal-without-version.jsonl")
    assert reading.notices == ()
    assert [line.event for line in reading.lines] == [
        "run started", "update domain", "pausing", "armed", "paused", "resuming", "resumed",
        "rescue",
    ]  # fmt: skip
    history = fold(reading)
    (guest,) = history.guests.values()
    assert (history.ended, history.held, guest.custody) == (False, (), Custody.RESUMED)
    assert list(guest.resumed_ns) == ["guardian"]
    assert history.started.boot_id == "c8aa8d1b-3e56-4478-ad93-ff1a70e886ba"


@pytest.mark.parametrize(
    ("odd", "notice"),
    [
        (b"[]", "line 2 is no object"),
        (b"7", "line 2 is no object"),
        (b"null", "line 2 is no object"),
        (b'"resumed"', "line 2 is no object"),
        (b'{"event": "a"', "line 2 is damaged: Expecting"),
        (b"\xff\x00\xfe", "line 2 is damaged"),
        (b"[" * 100_000, "line 2 is damaged: RecursionError"),
        (b"", "line 2 is damaged: it is empty"),
        (b"{}", "line 2 is not understood: None is no known kind of entry"),
        (b'{"event": []}', "line 2 is not understood: [] is no known kind of entry"),
        (b'{"event": "beamed"}', "'beamed' is no known kind of entry"),
        (b'{"event": "resumed", "version": 2, "uuid": "u"}', "its version is 2, and only 1 is"),
        (b'{"event": "resumed", "guest": "a", "by": "run"}', "resumed without uuid"),
        (b'{"event": "ended", "guest": "a", "uuid": 3}', "uuid of ended is not str"),
        (b'{"event": "pausing", "guests": [{"name": "a"}]}', "guests of pausing is not"),
        (b'{"event": "armed", "limit_s": 1' + b"0" * 400 + b"}", "limit_s of armed is not float"),
        (b'{"event": "pausing", "guests": ["a"]}', "guests of pausing is not"),
        (b'{"event": "run finished", "exit_code": true}', "exit_code of run finished is not int"),
    ],
)  # fmt: skip
def test_an_odd_line_is_told_and_the_others_are_believed(odd, notice):
    """What a rescue needs is in the lines around it."""
    reading = parse(lines(INTENT, odd, {"event": "paused", "guest": "a", "uuid": "u"}))
    (told,) = reading.notices
    assert notice in told
    assert reading.entries == (Pausing((Member("a", "u"),)), Paused("a", "u"))
    history = fold(reading)
    assert (history.held, history.notices) == ((Member("a", "u"),), (told,))


def test_a_field_that_is_not_known_is_no_reason_to_ignore_the_rest():
    """A newer harness may add some; the line keeps them for who shows it."""
    (line,) = understood([{**INTENT, "why": "because"}]).lines
    assert line.entry == Pausing((Member("a", "u"),))
    assert line.data["why"] == "because"


def test_a_torn_line_is_no_damage_if_it_is_the_last_or_said_to_be_torn():
    """A power cut loses that line only, and what a full disk tore is said when it has room."""
    torn = b'{"event": "resum'
    assert parse(lines(INTENT) + torn).notices == ()
    assert parse(lines(INTENT, torn, {"event": "torn"}, {"event": "torn"})).notices == ()
    assert len(parse(lines(INTENT, torn, INTENT, {"event": "torn"})).notices) == 1


#: JSON that may be in a line, among it entries with a field of a wrong kind.
_SIMPLE = some.none() | some.booleans() | some.integers() | some.floats() | some.text(max_size=5)
_VALUES = (
    _SIMPLE | some.lists(_SIMPLE, max_size=3) | some.dictionaries(some.text(max_size=5), _SIMPLE)
)
_NAMES = ["version", "guests", "guest", "uuid", "by", "name", "boottime_ns", "limit_s"]
_ODD = some.fixed_dictionaries(
    {"event": some.sampled_from(sorted(KINDS)) | _VALUES},
    optional={name: _VALUES for name in _NAMES},
)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    some.lists(
        some.binary(max_size=20) | _ODD.map(lambda one: json.dumps(one).encode()), max_size=8
    )
)
def test_no_journal_whatever_raises(told):
    """Bytes of any kind, and entries with values of any kind."""
    history = fold(parse(b"\n".join(told)))
    assert all(isinstance(member.uuid, str) for member in history.held)


def test_the_page_documents_every_entry_and_every_field():
    """And none that there is not: ``docs/reference/journal.md`` and the types are equal."""
    page = PAGE.read_text()
    documented = {}
    for event, body in re.findall(r"^### `([^`]+)`\n(.*?)(?=^#|\Z)", page, re.M | re.S):
        documented[event] = re.findall(r"^\| `(\w+)` \|", body, re.M)
    types = {
        kind.event: [field.name for field in dataclasses.fields(kind)] for kind in get_args(Entry)
    }
    assert documented == types
    assert f"`version`: {VERSION}" in page


def test_every_kind_has_an_event_of_its_own_and_says_what_it_is():
    """The union is the registry."""
    assert len(KINDS) == len(get_args(Entry))
    for kind in KINDS.values():
        assert kind.__doc__
        assert not kind.__doc__.startswith(kind.__name__)  # what dataclasses say by themselves
    assert KINDS["recovered"] is Recovered
    assert KINDS["resumed"] is Resumed
