"""Guests that are paused, and that no dead run is known to hold: named, and never resumed.

Whether there is one is looked at in any case: that no dead run was found says nothing of guests.
"""

from __future__ import annotations

import os
import pwd
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.core.errors import JournalError
from harness.core.pasteable import command
from harness.core.timebase import Deadline
from harness.core.trust import changed_by_others
from harness.host.lifecycle import GuestState, StateReading
from harness.host.protocol import Hypervisor
from harness.maintenance.resume_hint import resume_hint
from harness.results.folder import RunFolder
from harness.results.journal import FILE_NAME, Custody, GuestCustody, Member, fold, read
from harness.results.unfinished import Searched, journals_that_know

_RECOVER = ("harness", "recover")
_LET_GO = {
    Custody.REFUSED: "had not paused it",
    Custody.RESUMED: "had paused it, and it was resumed",
    Custody.TAKEN_OVER: "had paused it, and another program resumed it",
    Custody.ENDED: "had paused it, and it ended",
}


@dataclass(frozen=True)
class PausedGuest:
    """A guest that was seen to be paused, and is not this recovery's to resume."""

    name: str
    uuid: str
    uri: str
    reading: StateReading
    known: str
    """What journals say of it, in words."""
    held_by: RunFolder | None = None
    """A dead run that holds it, of another user: this recovery does not follow that one."""
    resume_hint: str = ""
    """What a person does to have it run, as commands to paste."""


def paused_guests(
    hypervisor: Hypervisor,
    searched: Sequence[Searched],
    trusted: Sequence[Path],
    deadline: Deadline,
) -> tuple[PausedGuest, ...]:
    """Return every guest that is paused now, with what journals say of it.

    Of what is in other state folders than the ``trusted`` ones only dead runs that say they hold
    the guest are reported, with their owners.

    Raises HypervisorError or DeadlineExpired if libvirt does not list its guests.
    """
    paused = [one for one in hypervisor.guests(deadline) if one.state.state is GuestState.PAUSED]
    if not paused:
        return ()
    dead = {folder: _guests(folder) for place in searched for folder in place.dead}
    found = []
    for guest in paused:
        held_by, known = _known(guest.uuid, dead, trusted)
        hint = resume_hint(Member(guest.name, guest.uuid), hypervisor, deadline)
        found.append(
            PausedGuest(guest.name, guest.uuid, hypervisor.uri, guest.state, known, held_by, hint)
        )
    return tuple(found)


def _known(
    uuid: str, dead: Mapping[RunFolder, Mapping[str, GuestCustody]], trusted: Sequence[Path]
) -> tuple[RunFolder | None, str]:
    """Return the dead run that holds a guest, if one does, and what is known of it in words."""
    for folder, guests in dead.items():
        if uuid in guests and guests[uuid].held:
            return folder, f"held by {described(folder)}"
    last = next(journals_that_know(uuid, trusted), None)
    if last is None:
        return None, "no journal that was searched knows it"
    guest = _guests(last).get(uuid)
    if guest is None or guest.custody not in _LET_GO:
        return None, f"run {last.run_id} holds it, and has not died"
    return None, f"run {last.run_id} {_LET_GO[guest.custody]}; so another program paused it"


def _guests(folder: RunFolder) -> Mapping[str, GuestCustody]:
    """What a run's journal says of each guest, by UUID; nothing if it cannot be read."""
    try:
        return fold(read(folder.path / FILE_NAME)).guests
    except JournalError:
        return {}


def described(folder: RunFolder) -> str:
    """Return a run's id with whose it is, and the command by which its user recovers it."""
    owner, state_dir = owner_of(folder.path), folder.path.parent.parent
    line = command("sudo", "-u", owner, "env", f"HARNESS_STATE_DIR={state_dir}", *_RECOVER)
    return f"dead run {folder.run_id} of {owner}: {line}"


def owner_of(path: Path) -> str:
    """Return the name, or else the uid, of the user that a file or folder belongs to."""
    try:
        uid = path.lstat().st_uid
    except OSError:
        return "unknown"
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"#{uid}"  # as sudo takes it


def is_ours(state_dir: Path) -> bool:
    """Return True if what is in a state folder may be followed: no other user can have written it.

    Root follows its own folders, and those of the person who became root by sudo.
    """
    runs = state_dir / "runs"
    try:
        foreign = os.geteuid() != 0 and runs.stat().st_uid != os.geteuid()
        sticky = runs.stat().st_mode & stat.S_ISVTX  # where any user may lay a folder
    except OSError:
        return False
    return not foreign and not sticky and changed_by_others(runs) is None
