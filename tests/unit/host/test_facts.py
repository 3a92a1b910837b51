"""Leases of the host's networks, and whether its own clock is kept right."""

from __future__ import annotations

import ctypes
from types import SimpleNamespace

import pytest

from harness.host.clock_sync import synchronised
from harness.host.facts import leases


def test_leases_are_addresses_by_mac_in_small_letters():
    """One without a MAC (IPv6 has such) is left out."""
    told = [
        {"ipaddr": "192.0.2.7", "mac": "52:54:00:AA:BB:CC"},
        {"ipaddr": "2001:db8::7", "mac": None},
    ]
    network = SimpleNamespace(DHCPLeases=lambda: told)
    connection = SimpleNamespace(listAllNetworks=lambda flags: [network])
    assert leases(connection) == {"192.0.2.7": "52:54:00:aa:bb:cc"}


class Kernel:
    """A libc whose adjtimex answers with a state and a status."""

    def __init__(self, state: int, status: int) -> None:
        self.state, self.status = state, status

    def adjtimex(self, timex) -> int:
        ctypes.c_int.from_buffer(timex, 40).value = self.status
        return self.state


@pytest.mark.parametrize(
    ("state", "status", "known"),
    [(0, 0, True), (0, 0x40, False), (5, 0, False), (-1, 0, None)],
)
def test_the_kernel_says_whether_its_clock_is_synchronised(monkeypatch, state, status, known):
    """STA_UNSYNC, TIME_ERROR; None where the call fails."""
    monkeypatch.setattr("ctypes.CDLL", lambda *_, **__: Kernel(state, status))
    assert synchronised() is known


def test_a_libc_without_that_call_is_no_answer(monkeypatch):
    """Nor is a machine whose structure is another one."""
    monkeypatch.setattr("ctypes.CDLL", lambda *_, **__: object())
    assert synchronised() is None
    monkeypatch.setattr("ctypes.sizeof", lambda _: 4)
    assert synchronised() is None
