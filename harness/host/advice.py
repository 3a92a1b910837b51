"""What a person does about a guest that does not run: commands to paste, by libvirt's reason.

``virsh resume`` is right for a guest that was paused, and for no other: one that sleeps is woken
up, one whose disk failed stops again at once, one that crashed has to be reset.
"""

from __future__ import annotations

from collections.abc import Callable

from harness.core.pasteable import command, virsh
from harness.host.lifecycle import SAVED, STARTING, GuestState, StateReading
from harness.host.qemu_process import state_folder

#: Reasons for a pause by which libvirt is at work on the guest, and lets it go on by itself.
_AT_WORK = frozenset({"dump", "migration", "postcopy", "save", "shutting down", "snapshot"})
_Say = Callable[[str], str]


def way_on(reading: StateReading, uri: str, guest: str, uuid: str = "") -> str:
    """Return how a guest in this state is brought to run again; "" for one that runs."""

    def say(verb: str) -> str:
        return virsh(uri, verb, guest, uuid)

    state, reason = reading.state, reading.reason
    if state is GuestState.PAUSED and reason == STARTING:
        return _of_starting(uri, guest)
    if state is GuestState.PAUSED:
        return _of_paused(reason, say("resume"), say)
    if state is GuestState.SUSPENDED:
        return say("dompmwakeup")
    if state is GuestState.CRASHED:
        return f"{say('destroy')}; {say('start')}"
    if state is GuestState.SHUT_OFF:
        restored = " (comes back as it was saved)" if reason == SAVED else ""
        return f"{say('start')}{restored}"
    if state is GuestState.SHUTTING_DOWN:
        return f"wait until it is shut off, then {say('start')}"
    if state is GuestState.GONE:
        return "libvirt does not know it any more; define it again"
    return "" if state is GuestState.RUNNING else f"{say('domstate')} --reason"


def _of_paused(reason: str, resume: str, say: _Say) -> str:
    if reason == "ioerror":
        return f"its disk failed, see {say('domblkerror')}; when that is fixed: {resume}"
    if reason.startswith("crashed"):
        return f"its kernel crashed: {say('reset')}; {resume}"
    if reason == "postcopy failed":
        return (
            f"its migration failed half-way, see {say('domjobinfo')}; it is resumed from its source"
        )
    if reason in _AT_WORK:
        return f"libvirt is at work on it ({reason}), see {say('domjobinfo')}; it goes on by itself"
    return resume


def _of_starting(uri: str, guest: str) -> str:
    status = command("rm", str(state_folder(uri) / f"{guest}.xml"))
    return (
        "libvirt is starting its QEMU; if that does not end within a minute, libvirt was killed at "
        f"it and never goes on: {status}; systemctl restart libvirtd; harness recover"
    )
