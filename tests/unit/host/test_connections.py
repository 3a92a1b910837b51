"""Connections are lent to one call at a time, made anew when dead, and closed in the end."""

from __future__ import annotations

import threading

import libvirt
import pytest

from harness.core.errors import ConnectionLost, HypervisorError
from harness.host import connections
from harness.host.connections import Connections
from harness.host.lifecycle_events import EventLog


class Foreign:
    """A connection of libvirt's; ``in_process`` is one that has no daemon."""

    in_process = False

    def __init__(self) -> None:
        self.alive, self.closed = True, False
        self.events = self.pings = 0

    def isAlive(self) -> bool:
        return self.alive

    def close(self) -> None:
        self.closed = True

    def domainEventRegisterAny(self, *_) -> int:
        self.events += 1
        return 1

    def setKeepAlive(self, *_) -> None:
        if self.in_process:
            error = libvirt.libvirtError("no")
            error.err = (libvirt.VIR_ERR_NO_SUPPORT, 0, "no", 0, "", "", "", 0, 0)
            raise error
        self.pings += 1


@pytest.fixture
def made(monkeypatch):
    """Every connection that was opened."""
    found: list[Foreign] = []
    monkeypatch.setattr(connections, "ensure_loop", lambda: None)
    monkeypatch.setattr(libvirt, "open", lambda uri: found.append(Foreign()) or found[-1])
    return found


@pytest.fixture
def pool(made):
    return Connections("qemu:///system", EventLog())


def test_calls_at_once_have_a_connection_each(pool, made):
    """Two overlapping calls on one connection may crash the process."""
    with pool.one() as first, pool.one() as second:
        assert first.connection is not second.connection
    with pool.one() as again:
        assert again in (first, second)
    assert len(made) == 3  # and one that listens


def test_only_the_one_that_listens_is_pinged_and_nobody_calls_on_it(pool, made):
    """A ping that falls into a call is as bad as another call."""
    with pool.one() as link:
        assert (link.connection.events, link.connection.pings) == (0, 0)
    (listening,) = (one for one in made if one.events)
    assert listening.pings == 1
    assert listening is not link.connection


def test_what_is_ready_is_not_made_when_time_is_short(pool, made):
    """As many as calls will come at once."""
    pool.ready(3)
    assert len(made) == 4
    with pool.one(), pool.one(), pool.one():
        assert len(made) == 4


def test_a_connection_that_broke_is_not_used_again(pool, made):
    """Whether the call noticed, or nobody did."""
    with pytest.raises(ConnectionLost), pool.one() as broken:
        raise ConnectionLost("gone", operation="asking")
    assert broken.connection.closed
    with pool.one() as link:
        pass
    link.connection.alive = False
    with pool.one() as other:
        assert other is not link
    assert link.connection.closed


def test_another_error_is_no_reason_to_let_go(pool, made):
    """The guest's fault, not the connection's."""
    with pytest.raises(HypervisorError), pool.one() as link:
        raise HypervisorError("no", operation="asking")
    with pool.one() as again:
        assert again is link


def test_events_are_listened_for_again_after_libvirtd_was_away(pool, made):
    """By the next call, before it is made."""
    with pool.one():
        pass
    for one in made:
        one.alive = False
    with pool.one() as link:
        assert [one.events for one in made if one.alive] == [1, 0]
        assert link.alive


def test_a_driver_in_this_process_has_one_connection(pool, made, monkeypatch):
    """Each of its connections would have guests of its own."""
    monkeypatch.setattr(Foreign, "in_process", True)
    with pool.one() as first, pool.one() as second:
        assert first is second
    assert len(made) == 1


def test_in_the_end_all_are_closed_also_what_is_in_use(pool, made):
    """A call that hangs gives its connection back when it ends."""
    with pool.one():
        pool.close()
        with pytest.raises(HypervisorError, match="was closed"), pool.one():
            pass
    assert all(one.closed for one in made)


def test_many_threads_never_share_one(pool, made):
    """Asked of the block itself."""
    busy: set[int] = set()
    shared = []

    def call() -> None:
        for _ in range(50):
            with pool.one() as link:
                if id(link) in busy:
                    shared.append(link)
                busy.add(id(link))
                busy.discard(id(link))

    threads = [threading.Thread(target=call) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=20)
    assert not shared
    assert len(made) <= 9
