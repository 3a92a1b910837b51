"""Logging in: the next address after one that leads nowhere, and whose tolerance counts."""

from __future__ import annotations

from typing import Any

import pytest

from harness.core.config import load
from harness.core.errors import DeadlineExpired, HostKeyRejected, ShellUnreachable, WrongGuest
from harness.core.settings import Config
from harness.core.timebase import Deadline
from harness.host.lifecycle import GuestState
from harness.host.protocol import GuestAddress
from harness.maintenance.before_pause import take_baselines
from harness.maintenance.guest_access import Login
from harness.maintenance.session import GuestSession
from harness.testing.clock import FakeClock
from harness.testing.connector import FakeConnector
from harness.testing.guest import FakeGuest
from harness.testing.host import FakeHost
from harness.testing.hypervisor import FakeHypervisor
from harness.updates.registry import FULL_CONFIG


class Addresses(FakeHypervisor):
    """A guest that may be at several addresses."""

    def addresses(self, uuid, deadline):
        return [
            GuestAddress("10.0.0.1", "guest agent, br0"),
            GuestAddress("10.0.0.2", "DHCP lease"),
        ]


class Answered(str):
    """A shell that is only opened and closed."""

    def close(self):
        closed.append(str(self))


closed: list[str] = []


class Answers(FakeConnector):
    """Logins that take ``each_s`` seconds and end as the address says."""

    def __init__(self, clock, answers, each_s):
        super().__init__({})
        self.clock, self.answers, self.each_s = clock, answers, each_s

    def open(self, guest, address, common, own, deadline):
        self.clock.advance(self.each_s)
        if isinstance(self.answers[address], Exception):
            raise self.answers[address]
        return Answered(self.answers[address])


@pytest.fixture
def log_in():
    """``log_in({address: what happens there})``; returns the address that it got in by."""
    clock = FakeClock()

    def attempt(answers, limit_s=60.0, each_s=15.0):
        host = Addresses({"web1": GuestState.RUNNING}, clock)
        deadline = Deadline.after(limit_s, clock)
        info = host.find("web1", deadline)
        config = Config()
        connector = Answers(clock, answers, each_s)
        section = config.for_guest("web1")
        login = Login(info, section, config.ssh, host, connector)

        def look(found, shell):
            if shell == "stranger":
                raise WrongGuest("is guest web2", guest="web1")
            return found.address

        return login.enter(deadline, look)

    return attempt


TIMED_OUT = DeadlineExpired("connecting to 10.0.0.1 port 22", 15.0, guest="web1")


@pytest.mark.parametrize(
    "first", [TIMED_OUT, ShellUnreachable("refused"), HostKeyRejected("unknown")]
)
def test_after_an_address_that_leads_nowhere_the_next_is_tried(log_in, first):
    """A stale lease times out: it is not the guest's last word."""
    assert log_in({"10.0.0.1": first, "10.0.0.2": "shell"}) == "10.0.0.2"


def test_a_guest_that_answers_nowhere_says_where_it_was_tried_and_why_there(log_in):
    """A person sees at once which source was wrong."""
    nowhere = {"10.0.0.1": ShellUnreachable("refused"), "10.0.0.2": ShellUnreachable("refused")}
    with pytest.raises(ShellUnreachable) as refused:
        log_in(nowhere)
    assert refused.value.message == (
        "refused; tried: 10.0.0.1 (guest agent, br0), 10.0.0.2 (DHCP lease)"
    )


def test_when_all_the_time_is_over_no_other_address_is_tried(log_in):
    """The deadline is one for all."""
    with pytest.raises(DeadlineExpired):
        log_in({"10.0.0.1": TIMED_OUT, "10.0.0.2": "shell"}, limit_s=10.0)


def test_a_refused_host_key_says_more_than_silence(log_in):
    """Whichever came first."""
    with pytest.raises(HostKeyRejected):
        log_in({"10.0.0.1": TIMED_OUT, "10.0.0.2": HostKeyRejected("unknown")})


def test_where_another_guest_answers_the_next_address_is_tried(log_in):
    """A lease that another guest got since: its shell is closed."""
    closed.clear()
    assert log_in({"10.0.0.1": "stranger", "10.0.0.2": "shell"}) == "10.0.0.2"
    assert closed == ["stranger"]


@pytest.mark.parametrize("other", [TIMED_OUT, HostKeyRejected("unknown")])
def test_that_another_guest_answers_says_more_than_a_refusal(log_in, other):
    """Whichever came first."""
    for answers in ("stranger", other), (other, "stranger"):
        with pytest.raises(WrongGuest):
            log_in(dict(zip(("10.0.0.1", "10.0.0.2"), answers, strict=True)))


@pytest.mark.parametrize(
    ("environment", "flags", "tolerance_s"),
    [
        ({}, {}, 0.5),
        ({}, {"clock.tolerance_s": 0.001}, None),
        ({"HARNESS_CLOCK_TOLERANCE_S": "0.002"}, {}, None),
        ({}, {"clock.allow_backward": True}, 0.5),
    ],
)
def test_a_tolerance_by_flag_goes_before_a_guests_own_in_the_file(
    tmp_path, environment, flags, tolerance_s
):
    """Flag > environment > file, also where the file speaks of one guest."""
    file = tmp_path / "harness.toml"
    text = '[clock]\ntolerance_s = 0.3\n[[guest]]\nname = "web1"\ntolerance_s = 0.5\n'
    file.write_text(text + 'address = "10.0.0.9"\n[guest.ssh]\nsudo = true\n')
    guest = load(file, environment=environment, flags=flags, model=FULL_CONFIG).config.for_guest(
        "web1"
    )
    assert guest.tolerance_s == tolerance_s
    assert (guest.address, guest.ssh.sudo) == ("10.0.0.9", True)


def test_a_session_is_opened_through_the_connector_that_is_handed_down():
    """Facts, sampler and second logins all come by it; no guest and no SSH is needed."""
    clock = FakeClock()
    guest = FakeGuest("web1", offset_s=-5.0, clock=clock)
    connector, host = FakeConnector({"web1": guest}), FakeHost(guest, clock=clock)
    deadline = Deadline.after(30, clock)
    config = Config()
    login = Login(
        host.find("web1", deadline), config.for_guest("web1"), config.ssh, host, connector
    )
    opened = GuestSession.open(login, config.clock, deadline)
    reading = opened.sampler.read(1, deadline)
    assert abs(reading.offset_s + 5.0) <= reading.uncertainty_s
    assert opened.boot_id_anew(deadline) == opened.facts.boot_id
    opened.close()
    assert [shell.closed for shell in connector.opened] == [True, True]


def test_baselines_taken_anew_let_the_earlier_probes_go(tmp_path):
    """While a guest is waited for: a second prober beside the first would never end."""
    clock = FakeClock()
    guest = FakeGuest("web1", clock=clock)
    connector, host = FakeConnector({"web1": guest}), FakeHost(guest, clock=clock)
    deadline, config = Deadline.after(30, clock), Config()
    info = host.find("web1", deadline)
    login = Login(info, config.for_guest("web1"), config.ssh, host, connector)
    opened = GuestSession.open(login, config.clock, deadline)
    closed: list[int] = []
    for number in range(3):
        take_baselines({"web1": opened}, config.checks, tmp_path, deadline)
        assert closed == list(range(number))
        probes: Any = opened.probes
        really_close = probes.close
        probes.close = lambda number=number, close=really_close: (closed.append(number), close())
    opened.close()
    assert closed == [0, 1, 2]
