"""What kind of guest is this? One remote command; a process start is slow under emulation.

Windows is asked another: see :mod:`harness.guest.windows`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from harness.core.errors import ProbeError
from harness.core.last_line import last_line
from harness.core.timebase import Deadline
from harness.guest import machine, windows
from harness.guest.machine import Machine
from harness.guest.protocol import GuestShell, Language

#: Interpreters that a clock agent exists for, best first; any POSIX shell is the last resort.
INTERPRETERS = ("python3", "perl", "sh")

#: How a time daemon is called in /proc/PID/comm (cut to 15 characters) → its name.
_TIME_DAEMONS = {
    "chronyd": "chronyd",
    "systemd-timesyn": "systemd-timesyncd",
    "ntpd": "ntpd",
    "openntpd": "openntpd",
}

#: Leaves what it finds in ``told``: a line that is printed by itself is a packet of its own, which
#: takes an emulated guest as long as half a process.
COLLECT = """
told=
tell() { told="$told$1=$2
"; }
say() { value=; IFS= read -r value <"$2"; [ -n "$value" ] && tell "$1" "$value"; }
say boot_id /proc/sys/kernel/random/boot_id
say kernel /proc/sys/kernel/osrelease
say clocksource /sys/devices/system/clocksource/clocksource0/current_clocksource
while read -r name real uid rest && [ "$name" != Uid: ]; do :; done </proc/self/status
tell uid "${uid:-$(id -u)}"
for name in python3 perl; do
    command -v "$name" >/dev/null 2>&1 && tell has "$name"
done
[ -n "$OS" ] && tell windows "$OS"
[ -r /proc/1/stat ] || tell sees own
if command -v grep >/dev/null 2>&1; then
    for name in $(grep -hs DAEMONS /dev/null /proc/[0-9]*/comm); do tell runs "$name"; done
else
    told="$told$(cat /proc/[0-9]*/comm 2>/dev/null | sed 's/^/runs=/')
"
fi
""".replace("DAEMONS", " ".join(f"-e '^{name}$'" for name in _TIME_DAEMONS))
COLLECT += machine.COLLECT
SCRIPT = f'{COLLECT}printf %s "$told"\n'


class GuestOs(StrEnum):
    """What answers a login: it decides which programs the guest is given."""

    LINUX = "linux"
    WINDOWS = "windows"


@dataclass(frozen=True)
class GuestFacts:
    """What matters for measuring and correcting a guest's clock."""

    boot_id: str
    kernel: str
    clocksource: str | None
    uid: int
    interpreters: tuple[str, ...]
    """Those of ``INTERPRETERS`` that are there, best first; ``powershell`` in Windows."""
    time_daemon: str | None
    sees_processes: bool = True
    """False: processes of other users are hidden from this one (``hidepid``)."""
    machine: Machine = Machine()
    os: GuestOs = GuestOs.LINUX

    @property
    def daemon_told(self) -> str:
        """Return the time daemon's name, ``none``, or ``unknown`` where processes are hidden."""
        return self.time_daemon or ("none" if self.sees_processes else "unknown")


def gather(shell: GuestShell, deadline: Deadline) -> GuestFacts:
    """Ask the guest, in the language that it turns out to speak.

    Raises ProbeError if it is neither a Linux nor a Windows that can be read, ShellError.
    """
    if shell.speaks is Language.SH:
        try:
            said = shell.run(SCRIPT, deadline, check=False).stdout
        except ProbeError:
            if shell.speaks is Language.SH:
                raise
        else:
            facts = understood(shell.guest, said)
            if facts is not None:
                return facts
            shell.speaks = Language.POWERSHELL  # a sh that came with Git or Cygwin
    done = shell.run(windows.FACTS, deadline, check=False)
    return _windows(shell.guest, windows.pairs_of(done.stdout.split("\n")), done.stderr)


def understood(guest: str, said: str) -> GuestFacts | None:
    """Return what ``SCRIPT`` said; None if that was in Windows. Raises ProbeError for nonsense."""
    pairs = _pairs(said)
    return None if ("windows", "Windows_NT") in pairs else _linux(guest, pairs)


def _pairs(said: str) -> list[tuple[str, str]]:
    # Not splitlines(): a process may be called "x\ruid=0".
    parted = (line.partition("=") for line in said.split("\n"))
    return [(key, value) for key, is_pair, value in parted if is_pair]


def _windows(guest: str, pairs: list[tuple[str, str]], errors: str) -> GuestFacts:
    single = dict(pairs)
    try:
        return GuestFacts(
            boot_id=single["boot_id"],
            kernel=f"Windows {single['kernel']}",
            clocksource=None,
            uid=0 if single["admin"] == "True" else 1,
            interpreters=("powershell",),
            time_daemon="w32time" if single.get("w32time") == "Running" else None,
            machine=machine.parse(pairs),
            os=GuestOs.WINDOWS,
        )
    except KeyError as error:
        said = last_line(errors, "it said nothing")
        raise ProbeError(
            f"does not tell its boot, version and user by PowerShell: {said[:200]!r}",
            guest=guest,
            hint="harness needs Windows PowerShell 5.1 in full language mode: "
            "docs/how-to/windows.md",
        ) from error


def _linux(guest: str, pairs: list[tuple[str, str]]) -> GuestFacts:
    single = dict(pairs)
    has = {value for key, value in pairs if key == "has"} | {"sh"}
    runs = {value for key, value in pairs if key == "runs"}
    daemons = [_TIME_DAEMONS[name] for name in _TIME_DAEMONS if name in runs]
    try:
        return GuestFacts(
            boot_id=single["boot_id"],
            kernel=single["kernel"],
            clocksource=single.get("clocksource"),
            uid=int(single["uid"]),
            interpreters=tuple(name for name in INTERPRETERS if name in has),
            time_daemon=daemons[0] if daemons else None,
            sees_processes=single.get("sees") != "own",
            machine=machine.parse(pairs),
        )
    except (KeyError, ValueError) as error:
        raise ProbeError(
            "does not tell its boot id, kernel and user id",
            guest=guest,
            hint="harness needs a Linux guest with a POSIX sh and /proc",
        ) from error
