"""The host keys of guests, shown before a login, and trusted by a person."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial

from harness.core.errors import (
    DeadlineExpired,
    HarnessError,
    HostKeyRejected,
    ShellUnreachable,
    WrongState,
)
from harness.core.fanout import fan_out
from harness.core.settings import GuestSection, SshSection, guest_section
from harness.core.timebase import Deadline
from harness.guest.protocol import Connector, ShownKeys
from harness.host.lifecycle import GuestState
from harness.host.protocol import GuestAddress, GuestInfo, Hypervisor
from harness.maintenance.guest_access import Login, most_telling, with_origins
from harness.maintenance.resume_hint import way_to_run

#: For what a guest does after its own deadline.
_SLACK_S = 2.0


@dataclass(frozen=True)
class GuestKeys:
    """What one guest shows of itself before a login."""

    info: GuestInfo
    address_from: str = ""
    """Who told the address at which it answered."""
    shown: ShownKeys | None = None
    """None: it could not be asked, or its key is refused; ``error`` says why."""
    error: HarnessError | None = field(default=None, compare=False)

    @property
    def unknown(self) -> bool:
        """Whether a person would have to trust these keys before a login succeeds."""
        return self.shown is not None and not self.shown.known


def look_at_keys(
    infos: Sequence[GuestInfo],
    hypervisor: Hypervisor,
    connector: Connector,
    deadline: Deadline,
    *,
    guests: Iterable[GuestSection],
    ssh: SshSection,
) -> tuple[GuestKeys, ...]:
    """Ask all these guests at once for their host keys; no login to a guest with an unknown key.

    ``guests`` are the sections of the configuration. Returns one answer a guest, in order; nothing
    is raised for a guest.
    """
    sections = tuple(guests)
    calls = {
        info.uuid: partial(
            _ask,
            Login(info, guest_section(sections, info.name, info.uuid), ssh, hypervisor, connector),
            deadline,
        )
        for info in infos
    }
    until = Deadline.after(deadline.limit_s + _SLACK_S, deadline.clock)
    answers = fan_out(calls, until, what="asking for the host key")
    found = []
    for info in infos:
        answer = answers[info.uuid]
        if isinstance(answer.error, HarnessError):
            found.append(GuestKeys(info, error=answer.error))
        else:
            entered, shown = answer.get()
            found.append(GuestKeys(info, entered.origin, shown))
    return tuple(found)


def _ask(login: Login, deadline: Deadline) -> tuple[GuestAddress, ShownKeys]:
    """The first address that answers, and what it shows. Raises HarnessError."""
    info = login.info
    if info.state.state is not GuestState.RUNNING:
        hint = way_to_run(info, login.hypervisor.uri)
        said = f"is {info.state}, so it shows no host key"
        raise WrongState(said, operation="asking", guest=info.name, hint=hint)
    refusals: list[HarnessError] = []
    tried: list[GuestAddress] = []
    for place in login.addresses(deadline):
        tried.append(place)
        try:
            shown = login.connector.host_keys(
                info.name, place.address, login.ssh, login.section.ssh, deadline
            )
        except (ShellUnreachable, HostKeyRejected, DeadlineExpired) as error:
            refusals.append(error)
            if deadline.expired:
                break
        else:
            return place, shown
    raise with_origins(most_telling(refusals), tried)
