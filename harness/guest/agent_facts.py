"""What a guest agent that runs no program tells of its guest by commands of its own."""

from __future__ import annotations

import ipaddress
from collections.abc import Collection

from harness.core.timebase import Deadline
from harness.guest.agent_channel import INTERFACES, OS_INFO
from harness.guest.agent_shell import AgentShell
from harness.guest.facts import GuestFacts, GuestOs
from harness.guest.protocol import Language

UNKNOWN = "unknown"


def own_address(shell: AgentShell, macs: Collection[str], deadline: Deadline) -> str | None:
    """Return an IP address of a network device that has one of ``macs``; None: it names none.

    Link-local ones are left out. Raises ShellUnreachable where no agent answers, DeadlineExpired.
    """
    if INTERFACES not in shell.abilities.allowed:
        return None
    said = shell.ask(INTERFACES, deadline)
    for device in said if isinstance(said, list) else ():
        if not isinstance(device, dict) or str(device.get("hardware-address")).lower() not in macs:
            continue
        for one in device.get("ip-addresses") or ():
            try:
                address = ipaddress.ip_address(str(one["ip-address"]))
            except (ValueError, KeyError, TypeError):
                continue
            if not (address.is_loopback or address.is_link_local):
                return str(address)
    return None


def facts_told(shell: AgentShell, deadline: Deadline) -> GuestFacts:
    """Return the kernel as the agent tells it; the rest is unknown, and no boot id among it.

    Raises ShellUnreachable where no agent answers, DeadlineExpired.
    """
    said = None
    if OS_INFO in shell.abilities.allowed:
        said = shell.ask(OS_INFO, deadline)
    told = said if isinstance(said, dict) else {}
    is_windows = shell.speaks is Language.POWERSHELL
    kernel = str(told.get("kernel-release") or told.get("pretty-name") or UNKNOWN)[:80]
    if is_windows:
        kernel = f"Windows {told.get('kernel-version')}.{kernel}"[:80]
    return GuestFacts(
        boot_id="",
        kernel=kernel,
        clocksource=None,
        uid=0,
        interpreters=(),
        time_daemon=None,
        sees_processes=False,
        os=GuestOs.WINDOWS if is_windows else GuestOs.LINUX,
    )
