"""At which address is the guest itself to be asked, past our login? Decided before it is asked.

A forwarded port of this machine, an address behind a jump host and one that is translated lead a
login to the guest, and everything else to another machine: what answers there is no evidence.
"""

from __future__ import annotations

import ipaddress

from harness.checks.probes.protocol import Scene
from harness.core.errors import MissingCapability
from harness.guest.machine import same_address


def direct_address(scene: Scene) -> str:
    """Return the IP address at which the guest itself answers from here.

    Both ends have to agree: this machine connected to it without a jump, and sshd in the guest
    names it as its own. Where the guest agent was the way in, it is an address that the guest has:
    only a program in the guest that answers there shows that it leads to it. Raises
    MissingCapability with the reason.
    """
    way, own = scene.remote.way, scene.facts.machine.ssh_address
    if way.access == "agent":
        if own is None:
            message = "the guest was reached by its agent, which tells no address of its own MACs"
            raise MissingCapability("direct-address", message)
        return own  # the guest proves by the secret of the channel that it is the guest
    if way.through:
        raise _elsewhere(f"the guest is reached through {', '.join(way.through)}", way.address)
    if way.peer is None:
        raise _elsewhere("the guest's address is known to SSH only", way.address)
    if way.is_here:
        raise _elsewhere(f"{way.shown} is a port of this machine", way.address)
    if own is None:
        raise _elsewhere("the guest does not tell at which address it was reached", way.peer)
    if not same_address(own, way.peer):
        raise _elsewhere(f"the guest was reached at its address {own}, not {way.peer}", way.peer)
    return way.address if _is_ip(way.address) else way.peer


def ip_version(address: str) -> str:
    """Return ``4`` or ``6``."""
    return str(ipaddress.ip_address(address.partition("%")[0]).version)


def _is_ip(address: str) -> bool:
    try:
        ip_version(address)
    except ValueError:
        return False
    return True


def _elsewhere(why: str, address: str) -> MissingCapability:
    return MissingCapability(
        "direct-address", f"{why}, so what answers at {address} from here need not be the guest"
    )
