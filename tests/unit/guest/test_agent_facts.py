"""What a guest agent tells by commands of its own is data, whatever it is."""

from __future__ import annotations

from typing import Any

import pytest

from harness.core.timebase import Deadline
from harness.guest.agent_channel import INTERFACES, OS_INFO, AgentAbilities
from harness.guest.agent_facts import facts_told, own_address
from harness.guest.agent_shell import AgentShell

MAC = "52:54:00:aa:bb:cc"


class Says:
    """An agent that answers each command as it is told to."""

    guest = "web1"

    def __init__(self, answer: Any) -> None:
        self.answer = answer

    def ask(self, command: str, deadline: Deadline, arguments: Any) -> Any:
        return self.answer


def shell(answer: Any, *allowed: str) -> AgentShell:
    return AgentShell(Says(answer), AgentAbilities("7", frozenset(allowed), frozenset()))


def told(*addresses: str, mac: str = MAC) -> list[dict[str, Any]]:
    return [
        {"name": "lo", "ip-addresses": [{"ip-address": "127.0.0.1"}]},
        {
            "name": "eth0",
            "hardware-address": mac,
            "ip-addresses": [{"ip-address": one, "prefix": 24} for one in addresses],
        },
    ]


@pytest.mark.parametrize(
    ("answer", "address"),
    [
        (told("fe80::1", "192.0.2.7", "2001:db8::7"), "192.0.2.7"),
        (told("192.0.2.7", mac=MAC.upper()), "192.0.2.7"),
        (told("192.0.2.7", mac="02:00:00:00:00:01"), None),
        (told("127.0.0.1", "169.254.1.1"), None),
        (told("no address", "", "1.2.3.4; reboot"), None),
        (told(), None),
        ([{"hardware-address": MAC}], None),
        ([{"hardware-address": MAC, "ip-addresses": [{}, 7]}], None),
        ({}, None),
        (None, None),
        ([None, 7, "eth0"], None),
    ],
    ids=str,
)
def test_an_address_is_taken_of_a_device_with_a_mac_of_the_guests_own(answer, address):
    """No loopback, none that is valid on one link only, no tunnel's, and no nonsense."""
    assert own_address(shell(answer, INTERFACES), {MAC}, Deadline.after(1)) == address
    assert own_address(shell(answer), {MAC}, Deadline.after(1)) is None


@pytest.mark.parametrize(
    ("answer", "kernel"),
    [
        ({"kernel-release": "6.1.0", "pretty-name": "Debian"}, "6.1.0"),
        ({"pretty-name": "Appliance 7"}, "Appliance 7"),
        ({}, "unknown"),
        ([], "unknown"),
        (None, "unknown"),
    ],
    ids=str,
)
def test_the_kernel_is_what_the_agent_says_and_the_rest_is_not_made_up(answer, kernel):
    """No boot id, no interpreter, and nothing known of time daemons."""
    facts = facts_told(shell(answer, OS_INFO), Deadline.after(1))
    assert (facts.kernel, facts.boot_id, facts.interpreters) == (kernel, "", ())
    assert facts.daemon_told == "unknown"
    assert facts_told(shell(answer), Deadline.after(1)).kernel == "unknown"
