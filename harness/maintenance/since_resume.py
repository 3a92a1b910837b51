"""What has become of guests since the resume: which are paused now, and which have ended."""

from __future__ import annotations

from contextlib import suppress

from harness.core.errors import HarnessError, TakenOver
from harness.core.timebase import Deadline
from harness.host.lifecycle import ENDED
from harness.host.protocol import Hypervisor
from harness.maintenance.pause.outcome import PauseWindow
from harness.maintenance.pause.stranded import still_paused
from harness.maintenance.plan import UpdateDomain
from harness.results.journal import Journal, Member


def find_paused(
    domain: UpdateDomain,
    window: PauseWindow,
    hypervisor: Hypervisor,
    journal: Journal,
    look_until: Deadline,
) -> tuple[tuple[str, ...], dict[str, str]]:
    """Guests that are paused now: those that we did not resume, and, in words, those that ran.

    Among the former is one that another program took over and left paused: it is not ours to
    resume, and is reported as paused; and one that could not be resumed and of which libvirt says
    nothing: it was paused by us, and was not seen to run. A dead guest is in neither, nor is one
    that was not ours all along.
    """
    unresumed, resumed, taken = [], [], []
    for guest in domain.guests:
        pause, member = window.guests[guest.name], Member(guest.name, guest.info.uuid)
        if pause.resume_returned_ns is not None:
            resumed.append(member)
        elif pause.stuck:
            unresumed.append(member)
        elif isinstance(pause.resume_error, TakenOver):
            taken.append(member)
    again = still_paused(resumed, hypervisor, look_until, if_silent=False)
    return (
        still_paused(unresumed, hypervisor, look_until, if_silent=True, journal=journal)
        + still_paused(taken, hypervisor, look_until, if_silent=False),
        dict.fromkeys(again, "is paused again: not by this run"),
    )


def find_ended(
    domain: UpdateDomain, window: PauseWindow, hypervisor: Hypervisor, look_until: Deadline
) -> dict[str, str]:
    """Guests that were resumed, and have ended by now, in words.

    From the first instruction after a pause there is no way back to the state before: such a guest
    is lost, and nothing of it is rolled back.
    """
    ended = {}
    for guest in domain.guests:
        if window.guests[guest.name].resume_returned_ns is None:
            continue
        with suppress(HarnessError):  # of what cannot be seen nothing is reported
            reading = hypervisor.state(guest.info.uuid, look_until)
            if reading.state in ENDED:
                ended[guest.name] = (
                    f"has ended since ({reading}): what was in its RAM is lost, and this run does "
                    "not start it"
                )
    return ended
