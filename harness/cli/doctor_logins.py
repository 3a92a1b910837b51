"""What a run would need of each guest: its login, its clock and the right to set it, identity."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

from harness.cli.finding import Finding, Level
from harness.core.errors import HarnessError
from harness.core.fanout import fan_out
from harness.core.records import ClockReading
from harness.core.settings import Access, ClockSection, GuestSection, SshSection, guest_section
from harness.core.timebase import Deadline
from harness.guest.protocol import Connector
from harness.host.protocol import GuestInfo, Hypervisor
from harness.maintenance.admission import HINT_UNBOUND, UNBOUND, Claims, admit
from harness.maintenance.guest_access import Login
from harness.maintenance.session import GuestSession
from harness.results.report.spoken import duration

_FIX_FAR = "raise its tolerance, or run harness nearer to the guest"


def problem(name: str, error: HarnessError) -> Finding:
    """Return an error as a finding about ``name``."""
    said_already = error.guest is None or name.endswith(error.guest)
    where = "" if said_already else f"{error.guest}: "
    return Finding(name, Level.PROBLEM, f"{where}{error.message}", error.hint or "")


def examine_logins(
    guests: Sequence[GuestInfo],
    hypervisor: Hypervisor,
    connector: Connector,
    deadline: Deadline,
    *,
    sections: Sequence[GuestSection],
    ssh: SshSection,
    access: Access,
    settings: ClockSection,
) -> Iterator[Finding]:
    """Log in to all these guests at once; yield one finding a guest, in order."""
    claims = Claims()

    def look(info: GuestInfo) -> Finding:
        section = guest_section(sections, info.name, info.uuid)
        login = Login(info, section, ssh, hypervisor, connector, access)
        session = admit(login, settings, claims, deadline)
        try:
            return _finding(session, section, deadline)
        finally:
            session.close()

    calls = {info.name: partial(look, info) for info in guests}
    for name, answer in fan_out(calls, deadline, what="logging in").items():
        error = claims.refused.get(name) or answer.error
        if isinstance(error, HarnessError):
            yield problem(f"guest {name}", error)
        else:
            yield answer.get()


def _finding(session: GuestSession, section: GuestSection, deadline: Deadline) -> Finding:
    policy = session.policy()
    reading = session.sampler.read_well(policy.samples, policy.tolerance_s / 2, deadline)
    name, detail = f"guest {session.name}", _detail(session, reading)
    if section.opt_out is not None:
        detail += f"; left out of every maintenance: {section.opt_out}"
    facts = _facts(session, reading)
    if unsure := policy.cannot_judge(reading):
        detail += f"; its clock is {unsure}, so it would be judged ERROR after a pause"
        return Finding(name, Level.WARNING, detail, _FIX_FAR, facts)
    if session.identity.bound_by is not None:
        return Finding(name, Level.OK, detail, facts=facts)
    unsure = f"{detail}; {UNBOUND}: {session.identity.detail}"
    return Finding(name, Level.WARNING, unsure, HINT_UNBOUND, facts)


def _detail(session: GuestSession, reading: ClockReading) -> str:
    facts = session.facts
    return (
        f"{session.info.accelerator}, {session.address} ({session.address_from}), "
        f"{'root' if facts.uid == 0 else f'uid {facts.uid}'}, {_right(session)}, "
        f"kernel {facts.kernel}, clock by {session.sampler.interpreter}, "
        f"round trip {duration(2 * reading.uncertainty_s)}: known to ± "
        f"{duration(reading.uncertainty_s)} (allowed ± {session.tolerance_s * 1000:g} ms), "
        f"time daemon {facts.daemon_told}"
    )


def _right(session: GuestSession) -> str:
    """Whether it may set the clock; one that may not was refused already, where that is asked."""
    if not session.settings.correct:
        return "right to set its clock not asked for (clock.correct = false)"
    return f"may set its clock{' by sudo' if session.reach.sudo else ''}"


def _facts(session: GuestSession, reading: ClockReading) -> dict[str, object]:
    facts = session.facts
    return {
        "uuid": session.info.uuid,
        "accelerator": session.info.accelerator,
        "address": session.address,
        "address_from": session.address_from,
        "uid": facts.uid,
        "sudo": session.reach.sudo,
        "may_set_clock": True if session.settings.correct else None,
        "kernel": facts.kernel,
        "interpreter": session.sampler.interpreter,
        "time_daemon": facts.time_daemon,
        "round_trip_s": 2 * reading.uncertainty_s,
        "tolerance_s": session.tolerance_s,
        "bound_by": session.identity.bound_by,
    }
