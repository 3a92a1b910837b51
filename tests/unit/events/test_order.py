"""What a scheduled maintenance is to do, as it is stored and as it was stored before."""

from __future__ import annotations

import json

import pytest

from harness.core.config import load
from harness.core.errors import ConfigError
from harness.events.order import Order
from harness.updates.registry import FULL_CONFIG

ORDER = Order(
    ("a; b", "--web"),
    {
        "update.command": ["./patch it.sh", "--now"],
        "update.kind": "command",
        "budget_s": 9.0,
        "spread": 2,
        "events.time_scale": 1.0,
        "uri": "test:///default",
    },
)


def test_what_is_stored_is_read_again_and_is_a_configuration():
    """Names are data: one that looks like an option stays a name."""
    assert Order.read(ORDER.as_json()) == ORDER
    config = load(
        None, environment={}, flags=Order.read(ORDER.as_json()).settings, model=FULL_CONFIG
    ).config
    assert config.update.model_dump()["command"] == ("./patch it.sh", "--now")
    assert (config.update.kind, config.budget_s, config.spread) == ("command", 9.0, 2)


def test_the_words_of_an_earlier_version_are_still_understood():
    """As ``harness events schedule`` wrote them, every option of it."""
    words = [
        *("--update", "'./patch it.sh' --now", "--scope", "host", "--expected", "3.5"),
        *("--duration", "0.2", "--budget", "9.0", "--reserve", "1.5", "--spread", "2"),
        *("--soak", "60.0", "--time-scale", "1", "--uri", "test:///default", "--", "a; b", "--web"),
    ]
    order = Order.read(json.dumps(words))
    assert order.guests == ORDER.guests
    assert order.settings == {
        **ORDER.settings,
        "update.scope": "host",
        "update.expected_s": 3.5,
        "update.duration_s": 0.2,
        "resume_reserve_s": 1.5,
        "soak_s": 60.0,
    }
    assert Order.read('["--kind", "hold", "--", "web1"]').settings == {"update.kind": "hold"}
    assert Order.read('["web1"]') == Order(("web1",))


def test_for_people_it_is_the_words_of_a_run():
    """And those mean the same when they are read."""
    assert ORDER.words()[:2] == ("--update", "'./patch it.sh' --now")
    assert Order.read(json.dumps(ORDER.words())) == ORDER


def test_an_option_that_is_not_known_is_refused_by_the_run_not_by_the_server():
    """The others that are scheduled go on."""
    order = Order.read('["--shiny", "1", "--", "web1"]')
    with pytest.raises(ConfigError, match="--shiny"):
        load(None, environment={}, flags=order.settings, model=FULL_CONFIG)


def test_how_many_are_paused_together_is_part_of_an_order():
    """As every option of ``harness run`` is."""
    order = Order(("web",), {"at_most": 3})
    assert Order.read(order.as_json()) == order
    assert order.words() == ("--at-most", "3", "--", "web")


def test_what_it_says_of_clocks_is_shown_as_its_options():
    """Switches and repeated options too."""
    settings = {
        "clock.methods": ["slew", "chronyd"],
        "clock.watch_s": 60.0,
        "clock.correct": False,
        "clock.restore_offset": True,
    }
    assert Order(("web1",), settings).words() == (
        *("--method", "slew", "--method", "chronyd", "--watch", "60s"),
        *("--no-correct", "--restore-offset", "--", "web1"),
    )
