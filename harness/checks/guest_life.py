"""What lived in the guest before the pause: processes, mounts, TCP connections. One look, pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from harness.core.process_stat import parse_stat


@dataclass(frozen=True)
class Look:
    """What one look found."""

    uptime_s: float
    processes: Mapping[tuple[int, int], str]
    """(pid, start time in clock ticks since boot) → name; kernel threads left out."""
    mounts: Mapping[str, str]
    """Mount point → device, type and whether it can be written."""
    connections: frozenset[str] | None
    """``local → remote`` of every established TCP connection; None: the kernel does not tell."""
    resets: int | None
    """TCP connections that ended otherwise than by being closed, since boot."""
    first_pid: int = 1
    """The process that is always there: 4 in Windows."""
    unanswered: frozenset[str] = frozenset()
    """Those of the connections whose peer has not acknowledged what was sent, and sent again."""

    @property
    def sees_all(self) -> bool:
        """Process 1 is seen; it is not where other users' processes are hidden (``hidepid``)."""
        return any(pid == self.first_pid for pid, _ in self.processes)


@dataclass(frozen=True)
class Life:
    """Two looks before the pause, so that what is short-lived anyway is left out, and one after."""

    first: Look
    before: Look
    after: Look
    ticks_per_s: int = 100
    long_running_s: float = 60.0

    def long_running(self) -> dict[tuple[int, int], str]:
        """The processes that were old enough before the pause."""
        youngest = (self.before.uptime_s - self.long_running_s) * self.ticks_per_s
        return {
            key: name
            for key, name in self.before.processes.items()
            if key[1] <= youngest and key in self.first.processes
        }


@dataclass
class _Draft:
    processes: dict[tuple[int, int], str] = field(default_factory=dict)
    mounts: dict[str, str] = field(default_factory=dict)
    connections: set[str] = field(default_factory=set)
    unanswered: set[str] = field(default_factory=set)
    tells_tcp: bool = False
    snmp: list[list[str]] = field(default_factory=list)
    uptime_s: float | None = None


_KTHREADD = 2
_ESTABLISHED = "01"
#: systemd-logind comes and goes with these, and automounts with theirs.
_FLEETING = ("/run/user/", "/proc/sys/fs/binfmt_misc")


def parse(text: str) -> Look:
    """What ``life`` of the python3 program told. Raises ValueError for nonsense."""
    return _look(_in_sections(text))


def parse_files(lines: Iterable[str]) -> Look:
    """What ``life`` of the sh program told: ``FILE:LINE``. Raises ValueError for nonsense."""
    parted = (line.partition(":") for line in lines)
    return _look((_SECTIONS.get(file, "stat"), line) for file, _, line in parted)


_SECTIONS = {
    "/proc/uptime": "uptime",
    "/proc/mounts": "mounts",
    "/proc/net/tcp": "tcp",
    "/proc/net/tcp6": "tcp",
    "/proc/net/snmp": "snmp",
}


def _in_sections(text: str) -> Iterator[tuple[str, str]]:
    section = ""
    for line in text.split("\n"):
        if line.startswith("=== "):
            section = line[4:]
        else:
            yield section, line


def _look(lines: Iterable[tuple[str, str]]) -> Look:
    draft = _Draft()
    for section, line in lines:
        if line.strip() and section in _READERS:
            _READERS[section](draft, line)
    if draft.uptime_s is None or not draft.processes or not draft.mounts:
        raise ValueError("no uptime, processes or mounts")
    return Look(
        draft.uptime_s,
        draft.processes,
        draft.mounts,
        frozenset(draft.connections) if draft.tells_tcp else None,
        _resets(draft.snmp),
        unanswered=frozenset(draft.unanswered),
    )


_WINDOWS_FIRST = 4
#: FILETIME counts 100 ns; a look counts hundredths of a second, here since 1601.
_PER_TICK, _PER_S = 100_000, 10_000_000


def parse_windows(text: str) -> Look:
    """What :data:`harness.guest.windows.LIFE` printed. Raises ValueError for nonsense."""
    told: dict[str, list[str]] = {}
    for line in text.split("\n"):
        kind, _, rest = line.partition(" ")
        told.setdefault(kind, []).append(rest)
    processes, mounts = {}, {}
    for one in told.get("process", ()):
        pid, created, name = one.split(" ", 2)
        processes[int(pid), int(created) // _PER_TICK] = name
    for one in told.get("volume", ()):
        device, kind, name = one.split(" ", 2)
        mounts[name] = f"{device} {kind}"
    if not processes or not mounts or "now" not in told:
        raise ValueError("no time, processes or volumes")
    resets = told.get("resets")
    connections = frozenset(" → ".join(one.split()) for one in told.get("tcp", ()))
    return Look(
        int(told["now"][0]) / _PER_S,
        processes,
        mounts,
        connections if resets else None,
        int(resets[0]) if resets else None,
        first_pid=_WINDOWS_FIRST,
    )


def _uptime(draft: _Draft, line: str) -> None:
    draft.uptime_s = float(line.split()[0])


def _stat(draft: _Draft, line: str) -> None:
    """A line of /proc/PID/stat."""
    try:
        stat = parse_stat(line)
    except ValueError:
        return  # a name with a newline in it: this is the half of a line
    if stat.parent != _KTHREADD and stat.pid != _KTHREADD:
        draft.processes[stat.pid, stat.start_ticks] = stat.name


def _mount(draft: _Draft, line: str) -> None:
    device, point, kind, options = line.split()[:4]
    if kind != "autofs" and not point.startswith(_FLEETING):
        draft.mounts[point] = f"{device} {kind} {options.split(',')[0]}"


def _tcp(draft: _Draft, line: str) -> None:
    """A line of /proc/net/tcp; its seventh column counts how often data was sent again."""
    fields = line.split()
    draft.tells_tcp = draft.tells_tcp or "local_address" in fields
    if len(fields) > 6 and fields[3] == _ESTABLISHED:
        connection = f"{fields[1]} → {fields[2]}"
        draft.connections.add(connection)
        if int(fields[6], 16) > 0:
            draft.unanswered.add(connection)


def _snmp(draft: _Draft, line: str) -> None:
    draft.snmp.append(line.split())


def _resets(lines: list[list[str]]) -> int | None:
    """EstabResets of /proc/net/snmp: a line of names, then one of values. None: it is not told."""
    tcp = [words for words in lines if words[0] == "Tcp:"]
    return int(dict(zip(*tcp[:2], strict=True))["EstabResets"]) if len(tcp) > 1 else None


_READERS = {"uptime": _uptime, "stat": _stat, "mounts": _mount, "tcp": _tcp, "snmp": _snmp}
