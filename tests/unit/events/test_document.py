"""What guests are told, byte for byte."""

from __future__ import annotations

import contextlib
import json
from dataclasses import replace
from email.utils import parsedate_to_datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.core.timebase import NS_PER_S
from harness.events.dialects import (
    amazon,
    events_of,
    google,
    issue_token,
    token_is_good,
)
from harness.events.document import (
    VERSIONS,
    Event,
    EventType,
    Malformed,
    Snapshot,
    Source,
    State,
    http_time,
    keys_of,
    parse_approval,
    render,
    utc,
)

ID = "602D9444-D2CD-49C7-8624-8643E7171297"
AT_NS = 1_775_946_418 * NS_PER_S  # 2026-04-11 22:26:58 UTC
EVENT = Event(
    event_id=ID,
    event_type=EventType.FREEZE,
    resources=("web1", "web2"),
    state=State.SCHEDULED,
    not_before_ns=AT_NS,
    description="Host server is undergoing maintenance.",
    duration_s=4.2,
)
OLD = {
    "EventId": ID,
    "EventType": "Freeze",
    "ResourceType": "VirtualMachine",
    "Resources": ["web1", "web2"],
    "EventStatus": "Scheduled",
    "NotBefore": "Sat, 11 Apr 2026 22:26:58 GMT",
}
DESCRIBED = {**OLD, "Description": "Host server is undergoing maintenance."}
SOURCED = {**DESCRIBED, "EventSource": "Platform"}
GOLDEN: dict[str, dict[str, Any]] = {
    "2017-03-01": {**OLD, "Resources": ["_web1", "_web2"]},
    "2017-08-01": OLD,
    "2017-11-01": OLD,
    "2019-01-01": OLD,
    "2019-04-01": DESCRIBED,
    "2019-08-01": SOURCED,
    "2020-07-01": {**SOURCED, "DurationInSeconds": 5},
}


def shown(event, version="2020-07-01"):
    return json.loads(render(Snapshot(2, (event,)), version).body)["Events"]


@pytest.mark.parametrize("version", GOLDEN)
def test_every_version_has_exactly_its_keys(version):
    """Golden documents, keys in the order in which Azure's documentation has them."""
    document = render(Snapshot(7, (EVENT,)), version)
    whole = {"DocumentIncarnation": 7, "Events": [GOLDEN[version]]}
    assert document.body == json.dumps(whole, separators=(",", ":")).encode()
    assert set(GOLDEN[version]) == keys_of(version)


def test_the_golden_documents_are_all_the_versions():
    """A version that is added gets a golden document."""
    assert tuple(GOLDEN) == VERSIONS


def test_an_unknown_version_is_no_version():
    """Not the nearest one either."""
    with pytest.raises(KeyError):
        render(Snapshot(1), "2020-07-02")


def test_nothing_is_an_empty_array_at_incarnation_1():
    """As every guest finds it in the beginning."""
    assert render(Snapshot(1), "2017-03-01").body == b'{"DocumentIncarnation":1,"Events":[]}'


def test_started_has_an_empty_time_but_has_the_key():
    """Clients look it up without asking."""
    (event,) = shown(replace(EVENT, state=State.STARTED))
    assert (event["EventStatus"], event["NotBefore"]) == ("Started", "")


@pytest.mark.parametrize("state", [State.PLANNED, State.ENDED, State.CANCELLED])
def test_what_is_not_announced_or_over_is_not_there(state):
    """There is no Completed and no Canceled on the wire."""
    assert shown(replace(EVENT, state=state)) == []


@pytest.mark.parametrize(
    ("event_type", "first"),
    [(EventType.PREEMPT, "2017-11-01"), (EventType.TERMINATE, "2019-01-01")],
)
def test_newer_types_are_kept_from_older_versions(event_type, first):
    """A strict old client would not know them."""
    seen = [v for v in VERSIONS if shown(replace(EVENT, event_type=event_type), v)]
    assert seen == [version for version in VERSIONS if version >= first]


@pytest.mark.parametrize(("seconds", "said"), [(0, 0), (-1, -1), (0.1, 1), (9, 9)])
def test_a_duration_is_whole_and_not_too_short(seconds, said):
    """0: none, -1: unknown."""
    assert shown(replace(EVENT, duration_s=seconds))[0]["DurationInSeconds"] == said


def test_the_source_is_said():
    """A maintenance that people asked for."""
    assert shown(replace(EVENT, source=Source.USER))[0]["EventSource"] == "User"


@given(st.integers(0, 4_000_000_000 * NS_PER_S))
def test_a_time_is_rfc_1123_and_never_early(at_ns):
    """A guest that waits until then has waited long enough."""
    text = http_time(at_ns)
    assert parsedate_to_datetime(text) == utc(at_ns)
    assert text.endswith(" GMT")
    assert 0 <= utc(at_ns).timestamp() - at_ns / NS_PER_S <= 1.000001


NAMES = st.text(min_size=1, max_size=20)
EVENTS = st.builds(
    Event,
    event_id=st.uuids().map(lambda value: str(value).upper()),
    event_type=st.sampled_from(EventType),
    resources=st.lists(NAMES, min_size=1, max_size=3).map(tuple),
    state=st.sampled_from(State),
    not_before_ns=st.integers(1, 4_000_000_000).map(lambda value: value * NS_PER_S),
    description=st.text(max_size=20),
    duration_s=st.floats(-1, 1e6, allow_nan=False),
)


@given(st.lists(EVENTS, max_size=4), st.integers(1, 1000), st.sampled_from(VERSIONS))
def test_any_document_keeps_the_contract(events, incarnation, version):
    """Whatever the names are: ASCII JSON with exactly the keys, same bytes and ETag again."""
    snapshot = Snapshot(incarnation, tuple(events))
    document = render(snapshot, version)
    assert document == render(snapshot, version)
    data = json.loads(document.body.decode("ascii"))
    assert data["DocumentIncarnation"] == incarnation
    for event in data["Events"]:
        assert set(event) == keys_of(version)
        assert (event["NotBefore"] == "") == (event["EventStatus"] == "Started")
        assert all(name[:1] == "_" for name in event["Resources"]) or version != "2017-03-01"


@given(st.lists(EVENTS, max_size=3), st.lists(EVENTS, max_size=3))
def test_another_content_has_another_etag(before, after):
    """Even if a lost database were to begin again at the same incarnation."""
    one, two = (render(Snapshot(3, tuple(events)), "2020-07-01") for events in (before, after))
    assert (one.body == two.body) == (one.etag == two.etag)


def test_an_approval_names_events_in_any_case_and_extra_keys_are_nothing():
    """DocumentIncarnation comes as a number from some and as a string from others."""
    for extra in ('"DocumentIncarnation": 5, ', '"DocumentIncarnation": "5", ', '"x": [{}], '):
        body = f'{{{extra}"StartRequests": [{{"EventId": "{ID.lower()}", "y": 1}}]}}'
        assert parse_approval(body.encode()) == (ID,)
    twice = json.dumps({"StartRequests": [{"EventId": ID}, {"EventId": "B"}, {"EventId": ID}]})
    assert parse_approval(twice.encode()) == (ID, "B")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"\xff\xfe",
        b"null",
        b"[]",
        b"5",
        b"{}",
        b'{"StartRequests": null}',
        b'{"StartRequests": {}}',
        b'{"StartRequests": []}',
        b'{"StartRequests": ["x"]}',
        b'{"StartRequests": [{}]}',
        b'{"StartRequests": [{"EventId": 5}]}',
        b'{"StartRequests": [{"EventId": ""}]}',
        b'{"StartRequests": [{"EventId": "A"}, null]}',
        b"[" * 60_000,
    ],
)
def test_what_is_no_approval_is_malformed(body):
    """Nothing else is raised, whatever is sent."""
    with pytest.raises(Malformed):
        parse_approval(body)


@given(st.binary(max_size=200))
def test_any_bytes_are_an_approval_or_malformed(body):
    """No third thing."""
    with contextlib.suppress(Malformed):
        assert all(parse_approval(body))


def test_google_tells_a_guest_of_what_hits_itself():
    """Others of its set see NONE; a started event changes the ETag and not the value."""
    snapshot = Snapshot(2, (EVENT,))
    assert google(events_of(snapshot, "other"))[0] == "NONE"
    value, etag = google(events_of(snapshot, "web1"))
    assert value == "MIGRATE_ON_HOST_MAINTENANCE"
    started = Snapshot(3, (replace(EVENT, state=State.STARTED),))
    assert google(events_of(started, "web1")) != (value, etag)
    reboot = (replace(EVENT, event_type=EventType.REBOOT),)
    assert google(reboot)[0] == "TERMINATE_ON_HOST_MAINTENANCE"


def test_amazon_has_its_own_words_for_the_same():
    """Times, codes and ids as EC2's clients parse them."""
    assert json.loads(amazon(())) == []
    assert json.loads(amazon((EVENT,))) == [
        {
            "NotBefore": "11 Apr 2026 22:26:58 GMT",
            "Code": "system-maintenance",
            "Description": "Host server is undergoing maintenance.",
            "EventId": "instance-event-602d9444d2cd49c78",
            "NotAfter": "11 Apr 2026 22:27:03 GMT",
            "State": "active",
        }
    ]


def test_a_token_is_good_for_its_guest_and_its_time():
    """Nobody else's, no later, not with a bit changed."""
    token = issue_token(b"secret", "web1", 100)
    assert token_is_good(b"secret", "web1", token, 99)
    assert not token_is_good(b"secret", "web2", token, 99)
    assert not token_is_good(b"secret", "web1", token, 100)
    assert not token_is_good(b"other", "web1", token, 99)
    for wrong in ("", "x", "é", token[:-2], token.swapcase()):
        assert not token_is_good(b"secret", "web1", wrong, 99)
