"""Whose keys are asked about, and what becomes of the answers; guests in memory."""

from __future__ import annotations

from contextlib import nullcontext

import pytest

from harness import api
from harness.cli.trusting import Trust, decide
from harness.core.settings import Config, GuestSection
from harness.host.lifecycle import GuestState
from harness.testing.connector import FakeConnector
from harness.testing.guest import FakeGuest
from harness.testing.host import FakeHost


@pytest.fixture
def there():
    """Three guests that run, of which web2 is a stranger and web3 shows another key than before."""
    guests = [FakeGuest(name) for name in ("web1", "web2", "web3")]
    connector = FakeConnector({guest.name: guest for guest in guests})
    connector.strangers, connector.changed = {"web2"}, {"web3"}
    host = FakeHost(*guests)
    return api.Backend(lambda config: nullcontext(host), connector)


def test_a_person_is_asked_about_unknown_keys_only(there):
    """A known one needs no answer, and a changed one gets none."""
    asked = []
    found = decide(Config(), [], lambda keys: not asked.append(keys.info.name), there)
    assert [one.trust for one in found] == [Trust.KNOWN, Trust.ADDED, Trust.REFUSED]
    assert asked == ["web2"]
    assert [shown.guest for shown in there.connector.trusted] == ["web2"]


def test_what_is_not_confirmed_is_not_added(there):
    """And is told as it is."""
    (one,) = decide(Config(), ["web2"], lambda keys: False, there)
    assert (one.trust, one.is_known, there.connector.trusted) == (Trust.UNKNOWN, False, [])
    assert one.as_data()["keys"] == [{"kind": "ssh-ed25519", "fingerprint": "SHA256:web2"}]


def test_keys_that_are_added_but_not_accepted_are_no_success(there):
    """A file that another one overrules, say: it is looked at again."""
    there.connector.trust = there.connector.trusted.append
    (one,) = decide(Config(), ["web2"], lambda keys: True, there)
    assert (one.trust, str(one.error)) == (
        Trust.FAILED,
        "web2: its keys were added, but are not accepted",
    )


def test_without_names_those_of_the_configuration_or_all_that_run(there):
    """The configuration is who is meant, where there is one."""
    configured = Config(guest=(GuestSection(name="web1"),))
    assert [one.keys.info.name for one in decide(configured, [], bool, there)] == ["web1"]


def test_a_guest_that_does_not_run_shows_no_key():
    """By name it is an error; unnamed it is left out."""
    host = FakeHost(FakeGuest("web1"))
    host.states["web1"] = GuestState.SHUT_OFF
    there = api.Backend(lambda config: nullcontext(host), FakeConnector({}))
    assert list(decide(Config(), [], bool, there)) == []
    (one,) = decide(Config(), ["web1"], bool, there)
    assert one.trust is Trust.FAILED
    assert "is shut off" in str(one.error)
