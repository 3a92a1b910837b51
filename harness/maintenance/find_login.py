"""Which login works on a guest, and may set its clock: tried one by one, nothing changed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial

from harness.core.errors import HarnessError, HostKeyRejected, ProbeError, ShellUnreachable
from harness.core.fanout import fan_out
from harness.core.settings import Access, ClockSection, GuestSection, SshSection
from harness.core.timebase import Deadline
from harness.guest.protocol import Connector
from harness.host.protocol import GuestInfo, Hypervisor
from harness.maintenance.guest_access import Login
from harness.maintenance.session import GuestSession

#: After the user that the SSH configuration names. Few: a guest may lock out after many.
LIKELY_USERS = ("root", "debian", "ubuntu")
_SLACK_S = 2.0


@dataclass(frozen=True)
class FoundLogin:
    """How one guest can be logged in to; nothing of it is known where ``error`` says why."""

    info: GuestInfo
    address: str | None = None
    address_from: str = ""
    user: str | None = None
    """None: the one that SSH's own configuration names."""
    uid: int | None = None
    sudo: bool = False
    """It becomes root by ``sudo -n``."""
    access: Access = "ssh"
    may_set_clock: bool = False
    error: HarnessError | None = field(default=None, compare=False)


def find_logins(
    infos: Sequence[GuestInfo],
    hypervisor: Hypervisor,
    connector: Connector,
    deadline: Deadline,
    *,
    users: Sequence[str],
    settings: ClockSection,
) -> tuple[FoundLogin, ...]:
    """Try to log in to all these guests at once; return one answer a guest, in order.

    Of each the first login that may set its clock, else the first one that works. ``users`` are
    tried first, then the one that SSH's configuration names, then likely ones; where no login
    works, the guest agent is asked. Nothing is raised for a guest.
    """
    candidates = [*users, None, *LIKELY_USERS]
    calls = {
        info.uuid: partial(_find, info, hypervisor, connector, candidates, settings, deadline)
        for info in infos
    }
    until = Deadline.after(deadline.limit_s + _SLACK_S, deadline.clock)
    answers = fan_out(calls, until, what="looking for a login")
    found = []
    for info in infos:
        error = answers[info.uuid].error
        if isinstance(error, HarnessError):
            found.append(FoundLogin(info, error=error))
        else:
            found.append(answers[info.uuid].get())
    return tuple(found)


def _find(
    info: GuestInfo,
    hypervisor: Hypervisor,
    connector: Connector,
    users: Sequence[str | None],
    settings: ClockSection,
    deadline: Deadline,
) -> FoundLogin:
    """Raises the HarnessError of the first login where none works."""
    second_best: FoundLogin | None = None
    refusals: list[HarnessError] = []
    for user in dict.fromkeys(users):
        found = _as_user(info, hypervisor, connector, user, settings, deadline, refusals)
        if found is not None and found.may_set_clock:
            return found
        second_best = second_best or found
        if refusals and not isinstance(refusals[-1], ProbeError | ShellUnreachable):
            break  # as another user it would be the same
    if second_best is not None:
        return second_best
    if refusals and isinstance(refusals[-1], HostKeyRejected):
        raise refusals[-1]  # a person has to look at it: the agent is no way around that
    section = GuestSection(name=info.name, access="agent")
    try:
        return _try(Login(info, section, SshSection(), hypervisor, connector), settings, deadline)
    except HarnessError as error:
        raise refusals[0] if refusals else error from error


def _as_user(
    info: GuestInfo,
    hypervisor: Hypervisor,
    connector: Connector,
    user: str | None,
    settings: ClockSection,
    deadline: Deadline,
    refusals: list[HarnessError],
) -> FoundLogin | None:
    """The login as this user, by sudo where that is allowed; why there is none: ``refusals``."""
    for sudo in (True, False):
        ssh = SshSection(user=user, sudo=sudo) if user else SshSection(sudo=sudo)
        login = Login(info, GuestSection(name=info.name), ssh, hypervisor, connector)
        try:
            return _try(login, settings, deadline)
        except ProbeError as error:  # it is in, but may not use sudo, or this is no such guest
            refusals.append(error)
        except HarnessError as error:
            refusals.append(error)
            return None
    return None


def _try(login: Login, settings: ClockSection, deadline: Deadline) -> FoundLogin:
    session = GuestSession.open(login, settings, deadline)
    try:
        may = True
        try:
            session.expect_right(deadline)
        except HarnessError:
            may = False
        by_agent = login.section.access == "agent"
        return FoundLogin(
            login.info,
            None if by_agent else session.address,
            session.address_from,
            login.ssh.user,
            session.facts.uid,
            login.ssh.sudo and session.facts.uid != 0 and not by_agent,
            "agent" if by_agent else "ssh",
            may,
        )
    finally:
        session.close()
