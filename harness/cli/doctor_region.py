"""Is the memory that was set aside for guests' RAM in force, and can this kernel be replaced?"""

from __future__ import annotations

import os
from collections.abc import Iterator

from harness.cli.finding import Finding, Level
from harness.core.errors import HarnessError
from harness.host.luo import abi, sessions
from harness.host.region import facts
from harness.host.region.enrolment import Enrolment
from harness.host.region.lacks import lacks_of_kernel, lacks_of_memory
from harness.host.region.rehearsal import conclude
from harness.host.setup_steps import read


def examine_region() -> Iterator[Finding]:
    """Say what is missing on a host that is set up with ``--region``, or that has live update.

    Nothing on another.
    """
    try:
        here = Enrolment.this()
        enrolled = here.enrolled()
        if enrolled is None:
            yield from _live_update(here) if sessions.is_there() else ()
            return
        if os.geteuid() != 0:
            detail = f"{enrolled.region} is set up; whether it is in force is for root to see"
            yield Finding("memory region", Level.WARNING, detail, "harness doctor, as root")
            return
        found = facts.look(here)
    except HarnessError as error:
        yield Finding("memory region", Level.PROBLEM, error.message, error.hint or "")
        return
    missing = lacks_of_memory(found)
    for lack in missing:
        yield Finding("memory region", Level.PROBLEM, lack.reason, lack.fix)
    if not missing:
        detail = f"{enrolled.region}, mounted on {found.folder} with DAX"
        yield Finding("memory region", Level.OK, detail)
    yield from _kernel(found)


def _live_update(here: Enrolment) -> Iterator[Finding]:
    """RAM of guests may go to another kernel without a region."""
    if os.geteuid() != 0:
        detail = "/dev/liveupdate is there; what the kernel hands over by it is for root to see"
        yield Finding("live update", Level.WARNING, detail, "harness doctor, as root")
        return
    try:
        words = abi.running()
        detail = f"/dev/liveupdate; this kernel hands memory over as {words}"
        yield Finding("live update", Level.OK if words.whole else Level.WARNING, detail)
    except HarnessError as error:
        detail = f"in which words this kernel hands memory over cannot be told: {error.message}"
        yield Finding("live update", Level.WARNING, detail, error.hint or "")
    # No unit of a region's notes that a kexec that was rehearsed has come up.
    conclude(read(here.command_line) or "")
    yield from _kernel(facts.look(here))


def _kernel(found: facts.HostFacts) -> Iterator[Finding]:
    unfit = lacks_of_kernel(found)
    for lack in unfit:
        yield Finding("replacing the kernel", Level.WARNING, lack.reason, lack.fix)
    if not unfit and found.rehearsal is not None:
        detail = f"a kexec to {found.rehearsal.release} was rehearsed, {found.rehearsal.at}"
        yield Finding("replacing the kernel", Level.OK, f"{detail}; {_if_it_hangs(found)}")


def _if_it_hangs(found: facts.HostFacts) -> str:
    armed = [one for one in found.watchdogs if one.armed]
    lasting = [f"{one}, after {one.timeout_s} s" for one in armed if one.outlasts]
    if lasting:
        return f"one that hangs is reset by {' or '.join(lasting)}"
    waits = "one that hangs waits for a person"
    if not armed:
        return f"{waits}: no watchdog in hardware is armed"
    return f"{waits}, unless the driver of {armed[0]} lets it go on: watchdog.stop_on_reboot=0 does"
