"""Where real guests say that they are: on interfaces that libvirt knows nothing of.

Requires: the session's lab. Leaves behind: nothing; what is made in the guest is removed.
"""

from __future__ import annotations

import pytest

from harness.core.timebase import Deadline

#: TEST-NET-2 and -3: nobody's.
IN_BRIDGE, IN_MACVLAN = "198.51.100.7", "203.0.113.7"
MAKE = (
    "set -e; card=$(ip -o -4 route show | sed -n 's/.* dev \\([^ ]*\\).*/\\1/p' | head -1); "
    f"ip link add br7 type bridge; ip address add {IN_BRIDGE}/24 dev br7; ip link set br7 up; "
    "ip link add mv7 link $card type macvlan mode bridge; "
    f"ip address add {IN_MACVLAN}/24 dev mv7; ip link set mv7 up"
)


@pytest.fixture
def inside(session):
    """A guest with a bridge and a macvlan of its own, each with an address."""
    guest = session("debian-1")
    guest.shell.run("modprobe bridge; modprobe macvlan; true", Deadline.after(30))
    guest.shell.run(MAKE, Deadline.after(30))
    yield guest
    guest.shell.run("ip link del mv7; ip link del br7", Deadline.after(30), check=False)


def test_addresses_of_a_bridge_and_a_macvlan_in_the_guest_are_offered(inside, libvirt):
    """With their origin, after that of its own card."""
    found = libvirt.addresses(inside.info.uuid, Deadline.after(20))
    assert found[0].address == inside.address
    origins = {one.address: one.origin for one in found}
    assert origins[IN_BRIDGE] == "guest agent, br7"
    assert origins[IN_MACVLAN] == "guest agent, mv7"
    assert inside.address_from
