"""Guest agents that guests are to be reached by, asked at plan time what they allow."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

from harness.core.errors import HarnessError, PlanError, together
from harness.core.fanout import fan_out
from harness.core.settings import Access
from harness.core.timebase import Deadline
from harness.guest.agent_channel import (
    COMMAND_S,
    EXEC,
    FILES,
    GET_TIME,
    SET_TIME,
    AgentAbilities,
    abilities_of,
)
from harness.host.protocol import Hypervisor
from harness.maintenance.agent import HypervisorChannel
from harness.maintenance.plan import PlannedGuest

HINT_ALLOW = (
    "allow them in the guest, e.g. BLOCK_RPCS or ALLOW_RPCS in /etc/sysconfig/qemu-ga; "
    "see docs/how-to/agent.md"
)


def foresee_agents(
    guests: Iterable[PlannedGuest], access: Access, hypervisor: Hypervisor, deadline: Deadline
) -> tuple[str, ...]:
    """Return a line for each guest whose agent does not answer, or lacks commands, naming them.

    ``access`` is what holds for all; only guests that the agent is the one way into are asked.
    Raises PlanError for guests of whose clock their agent can tell nothing.
    """
    theirs = [one for one in guests if (one.section.access or access) == "agent"]
    asked = {
        one.name: partial(
            abilities_of, HypervisorChannel(hypervisor, one.info.uuid, one.name), deadline
        )
        for one in theirs
    }
    until = deadline.sooner(COMMAND_S)
    refused: dict[str, HarnessError] = {}
    warnings = []
    for name, answer in fan_out(asked, until, what="asking the guest agent").items():
        if isinstance(answer.error, HarnessError):
            said = f"its guest agent does not answer ({answer.error.message})"
            warnings.append(f"{name}: {said}; a run refuses the guest until it does")
            continue
        may = answer.get()
        if error := refusal_of(name, may, talks=may.streams):
            refused[name] = error
        elif lacking := limits_of(may):
            warnings.append(f"{name}: {lacking}; checks that need it are skipped")
    if refused:
        raise together(refused)
    return tuple(warnings)


def refusal_of(guest: str, may: AgentAbilities, *, talks: bool) -> PlanError | None:
    """Return why no clock can be told by an agent that allows so little; None if one can.

    ``talks``: a program in the guest can be asked for it.
    """
    lacking = may.lacks((GET_TIME, *EXEC, *FILES))
    if talks or GET_TIME in may.allowed:
        return None
    return PlanError(
        f"its guest agent tells nothing of the clock: it lacks {', '.join(lacking)}",
        guest=guest,
        hint=HINT_ALLOW,
    )


def limits_of(may: AgentAbilities) -> str | None:
    """Return what an agent cannot be asked for, and the commands that it lacks; None: nothing."""
    lacking = may.lacks((*EXEC, *FILES))
    if not lacking:
        return None
    what = "programs in the guest cannot be asked again" if may.runs else "no program can be run"
    said = f"{what}: its guest agent lacks {', '.join(lacking)}"
    if SET_TIME not in may.allowed:
        said += "; nor can it set the clock: it lacks " + ", ".join(may.lacks((SET_TIME,)))
    return said
