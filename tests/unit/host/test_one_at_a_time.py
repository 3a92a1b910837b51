"""One command at a time for each guest's agent."""

from __future__ import annotations

import threading

import pytest

from harness.core.errors import DeadlineExpired
from harness.core.timebase import Deadline
from harness.host.one_at_a_time import OneAtATime


def test_a_guests_agent_is_asked_by_one_at_a_time_and_another_guests_meanwhile():
    """Who does not get a turn by its deadline asks nothing."""
    asking = OneAtATime()
    with asking.one("web1", Deadline.after(1)):
        with pytest.raises(DeadlineExpired, match="turn"), asking.one("web1", Deadline.after(0.05)):
            raise AssertionError("two at once")
        with asking.one("web2", Deadline.after(1)):
            pass
    with asking.one("web1", Deadline.after(1)):
        pass


def test_a_turn_is_waited_for():
    """It comes when the one before is over, however that ended."""
    asking, order = OneAtATime(), []
    waiting = threading.Event()

    def second() -> None:
        waiting.set()
        with asking.one("web1", Deadline.after(5)):
            order.append("second")

    thread = threading.Thread(target=second)
    with pytest.raises(KeyError), asking.one("web1", Deadline.after(1)):
        thread.start()
        waiting.wait(5)
        order.append("first")
        raise KeyError
    thread.join(5)
    assert order == ["first", "second"]
