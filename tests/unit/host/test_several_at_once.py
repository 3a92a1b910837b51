"""Several guests paused or resumed at once: who is asked, when."""

from __future__ import annotations

import threading

import pytest

from harness.core.errors import DeadlineExpired, WrongState
from harness.core.fanout import errors, fan_out
from harness.core.timebase import Deadline, NotYet, wait_for
from harness.host import driver, resumes_under_way
from harness.host.driver import LibvirtHypervisor
from harness.host.lately_running import LatelyRunning
from harness.host.protocol import EventKind, GuestState, LifecycleEvent
from harness.host.resumes_under_way import ResumesUnderWay
from harness.testing.clock import FakeClock

GUEST = """<domain type='test'><name>g{0}</name><uuid>{0}1111111-1111-1111-1111-111111111111</uuid>
<memory>1024</memory><os><type>hvm</type></os></domain>"""


def soon() -> Deadline:
    return Deadline.after(10)


@pytest.fixture
def libvirt(tmp_path):
    """Two guests that run."""
    (tmp_path / "node.xml").write_text(f"<node>{GUEST.format(1)}{GUEST.format(2)}</node>")
    opened = LibvirtHypervisor.open(f"test://{tmp_path / 'node.xml'}", soon())
    yield opened
    opened.close()


@pytest.fixture
def uuids(libvirt):
    return [guest.uuid for guest in libvirt.guests(soon())]


@pytest.fixture
def asked(libvirt, monkeypatch):
    """Whose state was asked, in order."""
    found = []
    really = libvirt._state
    monkeypatch.setattr(
        libvirt, "_state", lambda uuid, link: found.append(uuid) or really(uuid, link)
    )
    return found


def suspend_as_another(libvirt, uuid):
    """Another program's pause, and the event that tells of it."""
    guest = libvirt._connections._listening.connection.lookupByUUIDString(uuid)
    guest.suspend()

    def told():
        if EventKind.SUSPENDED not in [event.kind for event in libvirt.events(uuid)]:
            raise NotYet("no event")

    wait_for(told, what="the event", deadline=soon(), interval_s=0.005)


def test_one_look_at_all_is_enough_for_the_pauses_that_follow(libvirt, uuids, asked):
    """Nobody is asked among the calls that pause; the next pause of the same guest looks again."""
    libvirt.about_to_pause(uuids, soon())
    for uuid in uuids:
        libvirt.pause(uuid, soon())
    assert asked == []
    with pytest.raises(WrongState, match="paused"):
        libvirt.pause(uuids[0], soon())
    assert asked == uuids[:1]


def test_a_guest_that_was_paused_before_the_look_is_not_paused_by_us(libvirt, uuids):
    """It is not among those that run."""
    suspend_as_another(libvirt, uuids[0])
    libvirt.about_to_pause(uuids, soon())
    with pytest.raises(WrongState, match="paused"):
        libvirt.pause(uuids[0], soon())
    libvirt.pause(uuids[1], soon())


def test_a_guest_that_was_paused_since_the_look_is_not_paused_by_us(libvirt, uuids):
    """libvirt has told of it meanwhile."""
    libvirt.about_to_pause(uuids, soon())
    suspend_as_another(libvirt, uuids[0])
    with pytest.raises(WrongState, match="paused"):
        libvirt.pause(uuids[0], soon())


def test_where_libvirt_tells_nothing_each_pause_looks_for_itself(
    libvirt, uuids, asked, monkeypatch
):
    """The connection on which it would is dead."""
    libvirt.about_to_pause(uuids, soon())
    monkeypatch.setattr(type(libvirt._connections), "listening", False)
    libvirt.pause(uuids[0], soon())
    assert asked == uuids[:1]


def test_a_look_is_good_for_a_moment_and_for_one_pause():
    """Later, or for another guest, it says nothing."""
    clock = FakeClock()
    running = LatelyRunning(lambda uuid: (), clock)
    for wait_s, good in ((0.5, True), (2.0, False)):
        running.saw(["a"], clock.monotonic_ns())
        clock.advance(wait_s)
        assert running.take("a") is good
        assert not running.take("a"), "it is used up"
        assert not running.take("b")


def test_what_was_told_before_the_look_does_not_matter():
    """A guest that was resumed a minute ago runs."""
    clock = FakeClock()
    early = LifecycleEvent("a", EventKind.SUSPENDED, "0", clock.monotonic_ns())
    clock.advance(1)
    running = LatelyRunning(lambda uuid: (early,), clock)
    running.saw(["a"], clock.monotonic_ns())
    assert running.take("a")


def test_a_pause_among_several_takes_no_thread_beside_its_callers(libvirt, uuids, monkeypatch):
    """Which is given up at the same deadline; alone it has one of its own, to be given up."""
    threads = []
    really = libvirt._state

    def look(uuid, link):
        threads.append(threading.current_thread())
        return really(uuid, link)

    monkeypatch.setattr(libvirt, "_state", look)
    deadline = soon()

    def pause():
        libvirt.pause(uuids[0], deadline)
        return threading.current_thread()

    answer = fan_out({"": pause}, deadline, what="pausing")[""].get()
    assert threads == [answer]
    libvirt.pause(uuids[1], soon())
    assert threads[1] is not threading.current_thread()


def test_a_pause_that_hangs_is_given_up_whoever_calls(libvirt, uuids, monkeypatch):
    """Also with a deadline that ends before its caller's does."""
    over = threading.Event()
    monkeypatch.setattr(driver, "reading", lambda *found: over.wait(30))
    for nested in (False, True):
        until = Deadline.after(0.1)
        call = lambda until=until: libvirt.pause(uuids[0], until)  # noqa: E731
        outer = soon() if nested else until
        answer = fan_out({"": call}, outer, what="pausing")[""]
        assert isinstance(answer.error, DeadlineExpired)
        assert not outer.expired or not nested
    over.set()


def test_whether_guests_run_is_asked_when_all_were_resumed(libvirt, uuids, monkeypatch):
    """A question among the calls is one more that they have to wait for."""
    monkeypatch.setattr(resumes_under_way, "_OTHERS_S", 5.0)  # on a busy machine too
    order = []
    really = libvirt._state
    begun = threading.Barrier(len(uuids))  # or the first may be over before another is under way

    class Slow:
        """The second guest's resume takes its time."""

        def __init__(self, guest, wait_s):
            self._guest, self._wait_s = guest, wait_s

        def resume(self):
            begun.wait(10)
            threading.Event().wait(self._wait_s)
            self._guest.resume()
            order.append("resumed")

        def __getattr__(self, name):
            return getattr(self._guest, name)

    for uuid in uuids:
        libvirt.pause(uuid, soon())
    link = type(libvirt._connections._listening)
    guest = link.guest
    monkeypatch.setattr(
        link, "guest", lambda self, uuid: Slow(guest(self, uuid), 0.05 * uuids.index(uuid))
    )
    monkeypatch.setattr(
        libvirt, "_state", lambda uuid, link: order.append("asked") or really(uuid, link)
    )
    calls = {uuid: (lambda uuid=uuid: libvirt.resume(uuid, soon())) for uuid in uuids}
    assert not errors(fan_out(calls, soon(), what="resuming"))
    assert order == ["resumed", "resumed", "asked", "asked"]
    assert {libvirt.state(uuid, soon()).state for uuid in uuids} == {GuestState.RUNNING}


def test_a_resume_that_hangs_keeps_the_others_answers_for_a_moment_only(monkeypatch):
    """They may have to be tried again."""
    monkeypatch.setattr(resumes_under_way, "_OTHERS_S", 0.05)
    resumes = ResumesUnderWay()
    with resumes.one(), resumes.one() as over:
        over()
        over()  # once is enough: the other one is still under way
        waited = threading.Thread(target=resumes.wait, args=(10.0,))
        waited.start()
        waited.join(5)
        assert not waited.is_alive()
