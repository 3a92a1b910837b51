"""What the guest's kernel has to say since a marker, and whether it is still the same boot."""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass, replace

from harness.core.timebase import Deadline
from harness.guest import windows
from harness.guest.facts import GuestFacts, GuestOs
from harness.guest.in_python import program
from harness.guest.protocol import GuestShell, Language, Looked, Looks, Python

#: Lines that a pause must not cause (linux: kernel/watchdog.c, kernel/workqueue.c,
#: kernel/rcu/tree_stall.h, kernel/rcu/tree_exp.h, kernel/hung_task.c, kernel/time/clocksource.c);
#: and what a disk that is gone causes (block/blk-core.c, fs/buffer.c, fs/ext4/super.c).
STALL = re.compile(
    r"(soft|hard|workqueue) lockup|detected (expedited )?stalls|self-detected stall"
    r"|rcu_\w+ kthread starved"
    r"|blocked for more than \d+ seconds"
    r"|I/O error|EXT4-fs error|Remounting filesystem read-only"
    r"|clocksource: .*(unstable|Switched to clocksource|skewed)",
    re.IGNORECASE,
)
_LOG = 'IFS= read -r id </proc/sys/kernel/random/boot_id; echo "$id"; dmesg'


@dataclass(frozen=True)
class KernelLog:
    """A place in the guest's kernel log, and what came after it."""

    marker: str | None
    """A line of the log; None: the log cannot be read by this user."""
    new_lines: tuple[str, ...] = ()
    has_gap: bool = False
    """The marker is gone, so lines after it may be gone as well."""
    trouble: re.Pattern[str] = STALL
    """Which lines report a stall: those of Linux' kernel, or events of Windows' System log."""

    @property
    def stalls(self) -> tuple[str, ...]:
        """The new lines that report a stall."""
        return tuple(line for line in self.new_lines if self.trouble.search(line))


def mark(
    shell: GuestShell,
    facts: GuestFacts,
    deadline: Deadline,
    python: Python | None = None,
    looks: Looks | None = None,
) -> KernelLog:
    """Remember this place in the kernel log: by a line of its own as root, else by the last.

    In Windows, by the number of the System log's newest event. ``python``, ``looks``: run in the
    guest, and are asked in place of a shell.
    """
    if python is not None:
        asked = program("kernel_log", to_mark=_new_marker(), marker=None)
        return KernelLog(python.evaluate(asked, deadline) or None)
    if facts.os is GuestOs.WINDOWS:
        done = shell.run(windows.MARK, deadline, check=False)
        record = done.stdout.strip()
        return KernelLog(record if _is_record(record) else None, trouble=windows.TROUBLE)
    if facts.uid == 0:
        marker = _new_marker()
        seen = _look(shell, looks, f"mark {marker}", f"echo '{marker}' >/dev/kmsg", deadline)
        return KernelLog(marker if seen.returncode == 0 else None)
    seen = _look(shell, looks, "log", "dmesg", deadline)
    said = seen.lines if looks is None else seen.lines[1:]  # after the boot id
    lines = [line for line in said if line.strip()]
    return KernelLog(lines[-1] if seen.returncode == 0 and lines else None)


def _look(
    shell: GuestShell, looks: Looks | None, what: str, command: str, deadline: Deadline
) -> Looked:
    """Ask what looks around in the guest already for ``what``; without, a shell by ``command``."""
    if looks is not None:
        return looks.look(what, deadline)
    done = shell.run(command, deadline, check=False)
    return Looked(tuple(done.stdout.splitlines()), done.returncode)


def _new_marker() -> str:
    return f"harness: mark {secrets.token_hex(8)}"


def look_again(
    shell: GuestShell,
    log: KernelLog,
    deadline: Deadline,
    python: Python | None = None,
    looks: Looks | None = None,
) -> tuple[str | None, KernelLog | None]:
    """The boot id now, and the log since the marker; None if the log cannot be read."""
    if python is not None:
        asked = program("kernel_log", to_mark=None, marker=log.marker)
        told, how, *rest = [*python.evaluate(asked, deadline).split("\n"), ""]
        if log.marker is None or how not in ("marked", "gap"):
            return told or None, None
        after = tuple(line for line in rest if line)
        return told or None, replace(log, new_lines=after, has_gap=how == "gap")
    if shell.speaks is Language.POWERSHELL:
        return _look_at_events(shell, log, deadline)
    seen = _look(shell, looks, "log", _LOG, deadline)
    lines = seen.lines
    boot_id = lines[0] if lines else None
    if log.marker is None or seen.returncode != 0:  # dmesg's: what it did not say is not "nothing"
        return boot_id, None
    at = [number for number, line in enumerate(lines) if log.marker in line]
    # A marker that is gone means the log wrapped since, or the guest was rebooted: all is new.
    new = lines[at[-1] + 1 :] if at else lines[1:]
    return boot_id, replace(log, new_lines=tuple(new), has_gap=not at)


def _look_at_events(
    shell: GuestShell, log: KernelLog, deadline: Deadline
) -> tuple[str | None, KernelLog | None]:
    done = shell.run(windows.events_since(int(log.marker or 0)), deadline, check=False)
    lines = [line for line in done.stdout.split("\n") if line.strip()]
    boot_id = dict(windows.pairs_of(lines[:1])).get("boot_id")
    events = tuple(lines[1:])
    if log.marker is None or (done.returncode != 0 and not events):
        return boot_id, None
    marked = bool(events) and events[0].partition(" ")[0] == log.marker
    return boot_id, replace(log, new_lines=events[1:] if marked else events, has_gap=not marked)


def _is_record(said: str) -> bool:
    return said.isdecimal() and said.isascii() and len(said) < 19
