"""`harness doctor --prove windows`: on what stands in for a Windows, and on a Linux; in memory."""

from __future__ import annotations

from contextlib import nullcontext

import pytest

from harness import api
from harness.cli.prove_windows import header, masked, prove_guest
from harness.core.errors import GuestNotFound, HostKeyRejected
from harness.core.records import Outcome
from harness.core.settings import ClockSection, Config
from harness.testing.connector import FakeConnector
from harness.testing.guest import FakeGuest
from harness.testing.host import FakeHost


@pytest.fixture
def guest() -> FakeGuest:
    return FakeGuest("win1")


@pytest.fixture
def prove(guest):
    """``prove()``: what comes of each look, by its name."""

    def run(name: str = "win1", **changes):
        host = FakeHost(guest)
        there = api.Backend(lambda config: nullcontext(host), FakeConnector({"win1": guest}))
        config = Config(**{"clock": ClockSection(tolerance_s=0.05), **changes})
        return {one.name: one for one in prove_guest(config, name, there)}

    return run


def outcomes(proofs) -> dict[str, Outcome]:
    return {name: proof.outcome for name, proof in proofs.items()}


@pytest.mark.parametrize("access", ["ssh", "agent"])
def test_a_windows_that_does_what_it_should_passes_every_look(prove, guest, access):
    """A login and ten looks. By the guest agent alone, no clock can be stepped by a difference."""
    guest.become_windows()
    proofs = prove(access=access)
    assert len(proofs) == 11
    skipped = {name for name, outcome in outcomes(proofs).items() if outcome is Outcome.SKIP}
    assert skipped == (set() if access == "ssh" else {"clock stepped", "guest agent"})
    assert {*outcomes(proofs).values()} <= {Outcome.PASS, Outcome.SKIP}, proofs
    assert "5.1.20348.2849, FullLanguage, de-DE, UTC+60 min" in proofs["PowerShell"].detail
    lives = "3 processes (System seen), 1 volumes, connections: 1"
    assert proofs["what lives there"].detail == lives


def test_its_clock_is_as_it_was(prove, guest):
    """20 ms there, and back."""
    guest.become_windows()
    before_s = guest.offset_s
    proofs = prove()
    assert proofs["clock stepped"].outcome is Outcome.PASS
    assert guest.offset_s == pytest.approx(before_s, abs=0.005)
    asked = [one for one in guest.asked if one.startswith("s ")]
    assert [int(one.split()[2]) for one in asked] == [20_000_000, -20_000_000]


def test_a_clock_that_is_to_be_left_alone_is(prove, guest):
    """``clock.correct = false``."""
    guest.become_windows()
    proofs = prove(clock=ClockSection(correct=False, tolerance_s=0.05))
    assert proofs["clock stepped"].outcome is Outcome.SKIP
    assert not [one for one in guest.asked if one.startswith("s ")]


def test_a_linux_passes_what_is_not_of_windows_and_says_so(prove):
    """So the command itself can be tried without a Windows."""
    proofs = prove()
    skipped = {name for name, outcome in outcomes(proofs).items() if outcome is Outcome.SKIP}
    assert skipped == {"PowerShell", "what lives there", "time service"}
    assert all(proofs[name].detail == "this guest is no Windows" for name in skipped)


def test_what_goes_wrong_is_told_and_the_rest_is_looked_at(prove, guest):
    """By its words; the exit code is that of the worst."""
    told = guest.become_windows()
    guest.uid, guest.agent_sets_time = 1000, False
    told.w32time = None
    proofs = prove()
    assert proofs["right to set it"].outcome is Outcome.FAIL
    assert "Change the system time" in proofs["right to set it"].detail
    assert proofs["clock stepped"].outcome is Outcome.FAIL
    assert proofs["time service"].outcome is Outcome.PASS
    guest.unreachable = True
    assert outcomes(prove()) == {"login": Outcome.ERROR}


def test_an_answer_that_is_not_understood_is_a_failure(prove, guest):
    """And no traceback."""
    told = guest.become_windows()
    original = told.answer
    told.answer = lambda program: [] if "PSVersionTable" in program else original(program)
    assert prove()["PowerShell"].outcome is Outcome.FAIL


def test_the_report_names_no_guest_address_or_machine(prove, guest):
    """It is to be sent."""
    guest.become_windows()
    guest.uid, guest.agent_sets_time = 1000, False
    said = " ".join(f"{one.name} {one.detail}" for one in prove().values()) + header()
    for secret in ("win1", guest.address, guest.macs[0], "sqlservr", "192.0.2", guest.uuid):
        assert secret not in said, said


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("connecting to 192.0.2.7 port 22: refused", "connecting to ADDRESS port 22: refused"),
        ("at 2001:db8::7 and fe80::1%eth0 of win1", "at ADDRESS and ADDRESS of GUEST"),
        ("key SHA256:abc/+9= is new; tried: 192.0.2.7 (lease, win1net)", "key KEY is new"),
        ("mac 52:54:00:aa:bb:01 at 12:30 in win12", "mac ADDRESS at 12:30 in win12"),
    ],
)
def test_an_error_that_goes_into_the_report_names_nothing(said, shown):
    """Addresses, keys, the guest's name; nothing else is touched."""
    assert masked(HostKeyRejected(said), "win1") == shown


def test_a_guest_that_is_not_there_is_the_persons_mistake(prove):
    """With the nearest name."""
    with pytest.raises(GuestNotFound, match="did you mean 'win1'"):
        prove("win2")
