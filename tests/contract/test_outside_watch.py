"""For how long a machine did not answer: real packets, over a link that is cut."""

import os
import subprocess
from contextlib import closing

import pytest

from harness.core.timebase import SYSTEM_CLOCK, Deadline, NotYet, Stopwatch, wait_for
from harness.fleet.outside.watch import Watch
from harness.testing.required import required

#: Workers share a namespace: each has a link and addresses of its own.
NUMBER = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
PEER, LINK = f"outside-peer{NUMBER}", f"outside{NUMBER}"
HERE, THERE, NOT_THERE = (f"198.51.{100 + NUMBER}.{number}" for number in (1, 2, 77))


def ip(*words):
    subprocess.run(["ip", *words], check=True, timeout=20)


@pytest.fixture
def peer():
    """A machine that answers, by a link that can be cut."""
    why = None if os.environ.get("HARNESS_NAMESPACE") == "inside" else "not inside in-namespace"
    if why and required("guest"):
        pytest.fail(f"a namespace is required, but: {why}")
    if why:
        pytest.skip(why)
    ip("netns", "add", PEER)
    try:
        ip("link", "add", LINK, "type", "veth", "peer", "name", "eth0", "netns", PEER)
        ip("address", "add", f"{HERE}/24", "dev", LINK)
        ip("link", "set", LINK, "up")
        ip("-n", PEER, "address", "add", f"{THERE}/24", "dev", "eth0")
        ip("-n", PEER, "link", "set", "eth0", "up")
        yield THERE
    finally:
        ip("netns", "delete", PEER)


def silent(watch):
    def look():
        if watch.told(0.0).host.answers:
            raise NotYet("it answers")

    wait_for(look, what="the silence", deadline=Deadline.after(30))


def test_a_host_that_comes_back_was_silent_for_as_long_as_its_link_was_cut(peer):
    with closing(Watch()) as watch:
        watch.host("host", peer, peer)
        cut = Stopwatch()
        ip("-n", PEER, "link", "set", "eth0", "down")
        at_least = Stopwatch()
        silent(watch)
        SYSTEM_CLOCK.sleep(1.0)
        at_least_s = at_least.elapsed_s()
        ip("-n", PEER, "link", "set", "eth0", "up")
        host = watch.told(60.0).host
        assert host.answers
        assert at_least_s - host.uncertainty_s <= host.silent_s <= cut.elapsed_s()


def test_a_host_that_does_not_come_back_is_said_not_to_answer(peer):
    with closing(Watch()) as watch:
        watch.host("host", peer, peer)
        ip("-n", PEER, "link", "set", "eth0", "down")
        silent(watch)
        told = watch.told(0.5)
        assert not told.host.answers
        assert told.host.silent_s > 1.0


def test_one_whose_link_is_whole_was_not_silent(peer):
    """Else each of the above could be said of any host."""
    with closing(Watch()) as watch:
        watch.host("host", peer, peer)
        watch.guests({"g1": peer})
        SYSTEM_CLOCK.sleep(2.0)
        told = watch.told(10.0)
        assert told.host.answers
        assert told.host.silent_s < 1.5  # a question each 0.2 s; the machine may be busy
        assert [one.name for one in told.guests] == ["g1"]


def test_who_does_not_answer_at_first_is_not_watched(peer):
    with closing(Watch()) as watch:
        watch.guests({"g1": NOT_THERE})
        assert watch.told(0.0).guests == ()
        assert "g1 was not watched: it does not answer ICMP" in watch.told(0.0).notes[0]
