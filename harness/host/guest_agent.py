"""What a guest's agent tells (QEMU's ``qemu-ga``), asked through libvirt.

libvirt has no call of its own for these questions, so it passes the agent's own commands on, and
notes that on the guest (taint ``custom-ga-command``). Nothing is changed in the guest.
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from harness.core.errors import HypervisorError
from harness.core.timebase import Deadline
from harness.host.protocol import AgentFacts
from harness.host.translate import translated

if TYPE_CHECKING:
    import libvirt

_BOOT_ID = "/proc/sys/kernel/random/boot_id"
_ASKING = "asking the guest agent"


def ask(
    domain: libvirt.virDomain,
    name: str,
    deadline: Deadline,
    command: str,
    arguments: Mapping[str, Any] | None = None,
) -> Any:
    """Return what the agent answers to one command.

    libvirt has an agent that was silent once repeat a number (``guest-sync``) before it is asked
    anything else, and drops what comes before that: a late answer is dropped. Its own calls, such
    as virDomainGetTime, wait without limit for an agent that hangs, and keep other callers from
    it; this one takes the seconds that it may wait. Raises HypervisorError.
    """
    import libvirt_qemu  # not for the guardian, which stays small

    question: dict[str, Any] = {"execute": command}
    if arguments:
        question["arguments"] = dict(arguments)
    limit_s = max(1, math.floor(deadline.remaining_s()))
    with translated(f"{_ASKING} ({command})", name):
        answer = libvirt_qemu.qemuAgentCommand(domain, json.dumps(question), limit_s, 0)
    try:
        return json.loads(answer)["return"]
    except (KeyError, TypeError, ValueError) as error:
        raise _nonsense(name, answer) from error


def agent_facts(domain: libvirt.virDomain, name: str, deadline: Deadline) -> AgentFacts:
    """Return what the agent tells. Raises HypervisorError where none answers."""
    said = ask(domain, name, deadline, "guest-info")
    try:
        allowed = {one["name"] for one in said["supported_commands"] if one["enabled"]}
    except (KeyError, TypeError) as error:
        raise _nonsense(name, said) from error
    boot_id = None
    if {"guest-file-open", "guest-file-read", "guest-file-close"} <= allowed:
        with suppress(HypervisorError):  # by a policy of the guest's, such as SELinux
            boot_id = _boot_id(domain, name, deadline)
    return AgentFacts(boot_id, "guest-set-time" in allowed)


def _boot_id(domain: libvirt.virDomain, name: str, deadline: Deadline) -> str | None:
    handle = ask(domain, name, deadline, "guest-file-open", {"path": _BOOT_ID, "mode": "r"})
    try:
        said = ask(domain, name, deadline, "guest-file-read", {"handle": handle, "count": 64})
    finally:
        ask(domain, name, deadline, "guest-file-close", {"handle": handle})
    try:
        return base64.b64decode(said["buf-b64"]).decode("ascii").strip() or None
    except (KeyError, TypeError, ValueError) as error:
        raise _nonsense(name, said) from error


def _nonsense(name: str, said: object) -> HypervisorError:
    return HypervisorError(
        f"the guest agent answers nonsense: {str(said)[:80]!r}", operation=_ASKING, guest=name
    )
