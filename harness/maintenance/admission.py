"""Who may take part: guests whose login is known apart from every other, and may do what it must.

All of it is decided before the first pause.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial

from harness.core.errors import PlanError, together
from harness.core.fanout import errors, fan_out, values
from harness.core.records import IdentityRecord
from harness.core.settings import ClockSection
from harness.core.timebase import Deadline
from harness.guest import windows
from harness.guest.facts import GuestOs
from harness.maintenance.guest_access import Login
from harness.maintenance.identity import HINT_WRONG, Found
from harness.maintenance.session import GuestSession

UNBOUND = "it cannot be told whether what answers is the guest that is paused"
HINT_UNBOUND = "log in as root or with sudo = true in [ssh], or have the guest run qemu-guest-agent"
_NEW_KEYS = "rm /etc/ssh/ssh_host_*_key*; ssh-keygen -A; systemctl restart ssh"


class Claims:
    """What the logins of one run have found; any thread may add to it.

    Two logins that ended at one address, in one boot or at one host key are not known apart, so
    neither guest is.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._logins: list[Found] = []
        self.refused: dict[str, PlanError] = {}
        """Guests whose login cannot be told from another's, and why."""

    def claim(self, found: Found) -> None:
        """Remember a login. Raises PlanError, which names both, if it is not known apart."""
        name = found.info.name
        with self._lock:
            for other in self._logins:
                if (error := _twin(other, found)) is not None:
                    self.refused.setdefault(other.info.name, error)
                    self.refused.setdefault(name, error)
            self._logins.append(found)
            if name in self.refused:
                raise self.refused[name]


def admit(login: Login, settings: ClockSection, claims: Claims, deadline: Deadline) -> GuestSession:
    """Return an open session to a guest that may be paused.

    Raises what GuestSession.open does, and PlanError for a login that is not known apart from
    another's, or that may not set a clock which is to be corrected.
    """
    session = GuestSession.open(login, settings, deadline)
    try:
        claims.claim(session.found)
        if settings.correct:
            session.expect_right(deadline)
    except BaseException:
        session.close()
        raise
    return session


def open_all(
    logins: Sequence[Login], settings: ClockSection, deadline: Deadline, stack: ExitStack
) -> Mapping[str, GuestSession]:
    """Log in to all guests at once; return their sessions by name, which ``stack`` will close.

    Raises the errors of all that cannot take part, together; ``stack`` closes those that were
    opened.
    """
    claims = Claims()
    calls = {one.info.name: partial(admit, one, settings, claims, deadline) for one in logins}
    answers = fan_out(calls, deadline, what="logging in")
    for answer in answers.values():
        if answer.value is not None:
            stack.callback(answer.value.close)
    if failed := errors(answers):
        raise together({**failed, **claims.refused})
    return values(answers)


def warnings_about(sessions: Iterable[GuestSession]) -> tuple[str, ...]:
    """Return a warning for each guest of which it cannot be told whether it is what answers.

    And for each whose host key is not vouched for, because the SSH configuration asks for that; and
    for each that is a Windows, on which harness was not run yet.
    """
    found = []
    for one in sessions:
        if one.shell.way.doubt is not None:
            found.append(f"{one.name}: {one.shell.way.doubt}")
        if one.identity.bound_by is None:
            found.append(unbound(one.name, one.identity))
        if one.facts.os is GuestOs.WINDOWS:
            found.append(f"{one.name}: {windows.UNPROVEN} (hint: {windows.HINT_UNPROVEN})")
    return tuple(found)


def unbound(guest: str, identity: IdentityRecord) -> str:
    """Return the warning about a guest that could not be bound."""
    return f"{guest}: {UNBOUND}: {identity.detail} (hint: {HINT_UNBOUND})"


def _twin(one: Found, other: Found) -> PlanError | None:
    both = " and ".join(sorted((one.info.name, other.info.name)))
    leave_out = "or leave one of them out"
    if one.facts.boot_id and one.facts.boot_id == other.facts.boot_id:
        return PlanError(
            f"{both} are one machine to their logins, at {one.way.shown} and {other.way.shown} "
            f"(boot id {one.facts.boot_id})",
            hint=f"{HINT_WRONG}; {leave_out}",
        )
    if one.way.place == other.way.place:
        return PlanError(
            f"{both} are both reached at {one.way.shown}",
            hint=f"give each its own: {HINT_WRONG}; {leave_out}",
        )
    if one.way.host_key and one.way.host_key == other.way.host_key:
        return PlanError(
            f"{both} show one SSH host key ({one.way.host_key}), so neither is known by it; were "
            "they cloned from one image?",
            hint=f"make new ones in one of them: {_NEW_KEYS}; then trust its new key; {leave_out}",
        )
    return None
