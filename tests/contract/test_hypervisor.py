"""One contract, four hypervisors: the fake of the unit tests, the host in memory of whole
maintenances, libvirt's own test driver, and libvirt with real QEMU guests. What holds for one holds
for all.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass

import pytest

from harness.core.errors import (
    ConnectionLost,
    DeadlineExpired,
    GuestNotFound,
    HypervisorError,
    WrongState,
)
from harness.core.fanout import errors, fan_out
from harness.core.timebase import SYSTEM_CLOCK, Deadline, NotYet, wait_for
from harness.host.driver import LibvirtHypervisor
from harness.host.lifecycle import GuestState
from harness.host.protocol import EventKind, Hypervisor, ProcessIdentity
from harness.testing.guest import FakeGuest
from harness.testing.host import FakeHost
from harness.testing.hypervisor import FakeHypervisor

TEST_DRIVER = """
<node>
  <domain type='test'>
    <name>tiny-1</name><uuid>11111111-1111-1111-1111-111111111111</uuid>
    <metadata>
      <maintenance xmlns='urn:harness:maintenance:1' update-domain='7' availability-set='web'/>
    </metadata>
    <memory>1024</memory><os><type>hvm</type></os>
    <clock offset='utc'><timer name='rtc' track='guest'/></clock>
  </domain>
  <domain type='test'>
    <name>a; touch x</name><uuid>22222222-2222-2222-2222-222222222222</uuid>
    <memory>1024</memory><os><type>hvm</type></os>
  </domain>
</node>
"""


@dataclass
class Subject:
    """A hypervisor and two running guests of it."""

    hypervisor: Hypervisor
    names: tuple[str, str]

    @property
    def uuid(self) -> str:
        return self.hypervisor.find(self.names[0], soon()).uuid


def soon() -> Deadline:
    return Deadline.after(10)


@pytest.fixture
def test_driver(tmp_path):
    """libvirt's test driver with guests of our own; it lives in this process."""
    description = tmp_path / "node.xml"
    description.write_text(TEST_DRIVER)
    hypervisor = LibvirtHypervisor.open(f"test://{description}", soon())
    yield hypervisor
    hypervisor.close()


@pytest.fixture(
    params=["fake", "memory", "test-driver", pytest.param("qemu", marks=pytest.mark.guest)]
)
def subject(request):
    """Each implementation in turn; whatever a test paused runs again afterwards."""
    if request.param == "fake":
        states = {"tiny-1": GuestState.RUNNING, "tiny-2": GuestState.RUNNING}
        found = Subject(FakeHypervisor(states), ("tiny-1", "tiny-2"))
    elif request.param == "memory":
        names = ("tiny-1", "tiny-2")
        found = Subject(FakeHost(*(FakeGuest(name) for name in names)), names)
    elif request.param == "test-driver":
        found = Subject(request.getfixturevalue("test_driver"), ("tiny-1", "a; touch x"))
    else:
        found = Subject(request.getfixturevalue("libvirt"), ("tiny-1", "tiny-2"))
    yield found
    for name in found.names:
        info = found.hypervisor.find(name, soon())
        if info.state.state is GuestState.PAUSED:
            found.hypervisor.resume(info.uuid, soon())


def test_pause_and_resume_do_what_they_say(subject):
    """Running → paused → running, read back each time."""
    hypervisor, uuid = subject.hypervisor, subject.uuid
    hypervisor.pause(uuid, soon())
    assert hypervisor.state(uuid, soon()).state is GuestState.PAUSED
    hypervisor.resume(uuid, soon())
    assert hypervisor.state(uuid, soon()).state is GuestState.RUNNING


def test_a_guest_that_is_paused_already_cannot_be_paused_by_us(subject):
    """Somebody else's pause is never taken for ours, and is left as it is."""
    hypervisor, uuid = subject.hypervisor, subject.uuid
    hypervisor.pause(uuid, soon())
    with pytest.raises(WrongState, match="paused"):
        hypervisor.pause(uuid, soon())
    assert hypervisor.state(uuid, soon()).state is GuestState.PAUSED


def test_resuming_a_guest_that_runs_is_no_error(subject):
    """Somebody else may have been faster."""
    subject.hypervisor.resume(subject.uuid, soon())
    assert subject.hypervisor.state(subject.uuid, soon()).state is GuestState.RUNNING


def test_a_guest_is_found_by_name_or_uuid(subject):
    """The same guest either way; others are not confused with it."""
    by_name = subject.hypervisor.find(subject.names[1], soon())
    assert by_name.name == subject.names[1]
    assert subject.hypervisor.find(by_name.uuid, soon()).uuid == by_name.uuid


def test_an_unknown_guest_is_an_error_with_the_nearest_name(subject):
    """A misspelt name is told what it might have meant."""
    with pytest.raises(GuestNotFound, match="tny-1: no such guest.*tiny-1"):
        subject.hypervisor.find("tny-1", soon())


def test_the_time_of_a_guest_without_an_agent_is_an_error_of_ours_or_a_number(subject):
    """tiny guests have no agent; libvirt's test driver makes a time up. Nothing foreign escapes."""
    hypervisor, uuid = subject.hypervisor, subject.uuid
    with suppress(HypervisorError):
        assert isinstance(hypervisor.guest_time_ns(uuid, soon()), int)
    with suppress(HypervisorError):
        hypervisor.set_guest_time(uuid, 1_800_000_000 * 10**9, soon())


def test_what_a_guest_agent_tells_is_the_guests_boot_or_an_error_of_ours(subject):
    """Another way to the guest than SSH."""
    try:
        told = subject.hypervisor.agent_facts(subject.uuid, soon())
    except HypervisorError:
        return
    assert told.boot_id is None or told.boot_id.strip()
    assert told.sets_time in (True, False)


def test_an_agent_that_is_asked_a_command_of_its_own_answers_it_or_is_an_error_of_ours(subject):
    """tiny guests have no agent, nor has libvirt's test driver a way to one."""
    with suppress(HypervisorError):
        assert subject.hypervisor.ask_agent(subject.uuid, "guest-ping", soon(), None) == {}
    with pytest.raises(HypervisorError):
        subject.hypervisor.ask_agent(subject.uuid, "guest-of-no-such-name", soon(), None)


def test_a_process_that_lives_has_not_ended(subject):
    """One of no guest has, if it is not there at all."""
    process = subject.hypervisor.process(subject.uuid, soon())
    if process is not None:
        assert not subject.hypervisor.has_ended(process)
    assert subject.hypervisor.has_ended(ProcessIdentity((1 << 22) + 7, 1))


def test_the_list_is_sorted_and_holds_every_guest(subject):
    """Both guests, by name."""
    names = [info.name for info in subject.hypervisor.guests(soon())]
    assert names == sorted(names)
    assert set(subject.names) <= set(names)


def test_pause_and_resume_are_seen_as_events_in_order(subject):
    """SUSPENDED then RESUMED, stamped between the calls, on the monotonic clock."""
    hypervisor, uuid = subject.hypervisor, subject.uuid
    began_ns = SYSTEM_CLOCK.monotonic_ns()
    hypervisor.pause(uuid, soon())
    hypervisor.resume(uuid, soon())

    def both():
        events = [event for event in hypervisor.events(uuid) if event.at_ns >= began_ns]
        if len(events) < 2:
            raise NotYet(f"only {events}")
        return events

    events = wait_for(both, what="events", deadline=soon(), interval_s=0.01)
    assert not hypervisor.missed_events(began_ns)
    assert hypervisor.missed_events(-1), "nobody listened then"
    assert [event.kind for event in events[:2]] == [EventKind.SUSPENDED, EventKind.RESUMED]
    assert began_ns <= events[0].at_ns <= events[1].at_ns <= SYSTEM_CLOCK.monotonic_ns()


def test_several_guests_can_be_paused_at_once(subject):
    """Calls from several threads do not get in each other's way."""
    hypervisor = subject.hypervisor
    uuids = {name: hypervisor.find(name, soon()).uuid for name in subject.names}
    for operation in (hypervisor.pause, hypervisor.resume):
        calls = {n: (lambda u=u, op=operation: op(u, soon())) for n, u in uuids.items()}
        assert not errors(fan_out(calls, soon(), what="both"))


def test_a_guest_that_does_not_exist_any_more_is_gone(subject):
    """No error: gone is a state."""
    nobody = "99999999-9999-9999-9999-999999999999"
    assert subject.hypervisor.state(nobody, soon()).state is GuestState.GONE
    with pytest.raises(WrongState, match="gone"):
        subject.hypervisor.resume(nobody, soon())


def test_labels_and_rtc_track_are_read_from_the_description(test_driver):
    """<metadata> and <clock> are data; so is a name."""
    labelled = test_driver.find("tiny-1", soon())
    assert (labelled.update_domain, labelled.availability_set) == ("7", "web")
    assert labelled.rtc_track == "guest"
    plain = test_driver.find("a; touch x", soon())
    assert (plain.update_domain, plain.rtc_track) == (None, "wall")


def test_no_libvirt_is_a_lost_connection_with_a_hint():
    """The socket is not there."""
    with pytest.raises(ConnectionLost, match="is libvirtd running"):
        LibvirtHypervisor.open("qemu+unix:///system?socket=/nonexistent/sock", soon())


def test_a_daemon_that_hangs_is_given_up_at_the_deadline(tmp_path, monkeypatch):
    """A libvirtd that accepts and never answers costs no more than the deadline."""
    import socket

    path = tmp_path / "sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        uri = f"qemu+unix:///system?socket={path}"
        with pytest.raises(DeadlineExpired, match=r"connecting to qemu\+unix:.* 0\.3 s") as caught:
            LibvirtHypervisor.open(uri, Deadline.after(0.3))
        assert "did not answer; look at: systemctl status libvirtd" in caught.value.hint
        # Nobody waits for the whole of what a maintenance may take to prepare.
        monkeypatch.setattr("harness.host.driver._CONNECT_S", 0.2)
        with pytest.raises(DeadlineExpired, match=r" 0\.2 s"):
            LibvirtHypervisor.open(uri, Deadline.after(100))
