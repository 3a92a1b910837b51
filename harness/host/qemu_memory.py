"""What the kernel tells about a guest's QEMU process: its memory, and its vCPU threads' time.

Only files in ``/proc`` that never block, because they are read at the edges of a pause.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from harness.core.process_stat import PROC, is_same_process, read_stat, read_whole
from harness.host.mounts import DAX, file_system
from harness.host.protocol import ProcessIdentity


@dataclass(frozen=True)
class Resident:
    """One look at the memory of the QEMU process; all in bytes."""

    rss_bytes: int
    """VmRSS: the guest's RAM, and QEMU's own heap and tables, which come and go."""
    swap_bytes: int
    major_fault_bytes: int
    """Major faults since its start × the size of a page."""
    ram_bytes: int | None = None
    """How much of the guest's RAM alone is in memory; None: no look, or it cannot be told."""


_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
#: The flag of VM_DONTCOPY in ``smaps`` (proc_pid_smaps(5)). QEMU keeps its RAM blocks, and nothing
#: else of size, from its children (MADV_DONTFORK).
_NOT_FOR_CHILDREN = b"dc"
#: What of a mapping is in memory; huge pages of hugetlbfs are in none of the others.
_IN_MEMORY = re.compile(rb"^(?:Rss|Shared_Hugetlb|Private_Hugetlb): *(\d+)", re.MULTILINE)
#: What begins the last line of each mapping.
_FLAGS = b"\nVmFlags:"


def is_alive(process: ProcessIdentity, proc: Path = PROC) -> bool:
    """Whether that very process is still there, and not another of the same pid."""
    return is_same_process(process.pid, process.start_ticks, proc)


def resident(pid: int, proc: Path = PROC) -> Resident:
    """One look at a process's memory. Raises OSError if it is gone."""
    sizes = {"VmSwap": 0}  # a kernel without swap tells none
    for line in read_whole(f"{proc}/{pid}/status").decode(errors="replace").splitlines():
        name, _, value = line.partition(":")
        if name in ("VmRSS", "VmSwap"):
            sizes[name] = int(value.split()[0]) * 1024
    if "VmRSS" not in sizes:
        raise ValueError(f"process {pid} has no memory any more: it has ended")
    faults = read_stat(pid, proc).major_faults
    return Resident(sizes["VmRSS"], sizes["VmSwap"], faults * _PAGE_BYTES)


def ram_resident(pid: int, proc: Path = PROC) -> int | None:
    """How much of a guest's RAM blocks is in memory, bytes; None if no mapping is known for one.

    The kernel walks the page tables for it: some 3 ms for a guest of 128 MiB, and the longer the
    more pages there are. Raises OSError if the process is gone or may not be looked into.
    """
    found: int | None = None
    # There are hundreds of mappings, and few are of RAM: only those are looked at line by line.
    mappings = (proc / str(pid) / "smaps").read_bytes().split(_FLAGS)
    for lines, after in pairwise(mappings):
        flags = after.partition(b"\n")[0]
        if _NOT_FOR_CHILDREN in flags.split():
            found = (found or 0) + sum(map(int, _IN_MEMORY.findall(lines))) * 1024
    return found


def maps_files(pid: int, files: Collection[str], proc: Path = PROC) -> bool:
    """Return True if a process has all of ``files`` (``device:inode``) in its memory.

    False also if it is gone.
    """
    try:
        lines = (proc / str(pid) / "maps").read_text(errors="replace").splitlines()
    except OSError:
        return False
    found = set()
    for line in lines:
        _, _, _, device, inode = line.split()[:5]
        major, minor = (int(part, 16) for part in device.split(":"))
        found.add(f"{os.makedev(major, minor)}:{inode}")
    return set(files) <= found


def is_set_aside(pid: int, proc: Path = PROC) -> bool:
    """Return True if a process has files of a DAX mount in its memory. False also if it is gone.

    Not for the edges of a pause: it looks at the files' names.
    """
    try:
        lines = (proc / str(pid) / "maps").read_text(errors="replace").splitlines()
    except OSError:
        return False
    paths = {words[5] for line in lines if len(words := line.split(maxsplit=5)) > 5}
    folders = {Path(path).parent for path in paths if path.startswith("/")}
    return any(file_system(folder) == DAX for folder in folders)


def vcpu_threads(pid: int, proc: Path = PROC) -> tuple[int, ...]:
    """The ids of its vCPU threads, by the names QEMU gives them: ``CPU 0/KVM``, ``CPU 0/TCG``.

    libvirt has QEMU name its threads. Raises OSError if the process is gone.
    """
    found = []
    tasks = f"{proc}/{pid}/task"
    for thread in os.listdir(tasks):
        name = read_whole(f"{tasks}/{thread}/comm").strip()
        if name.endswith((b"/KVM", b"/TCG")) and b"CPU" in name:
            found.append(int(thread))
    return tuple(sorted(found))


def cpu_time_ns(pid: int, thread: int, proc: Path = PROC) -> int:
    """How long a thread has been on a CPU, nanoseconds. Raises OSError if it is gone."""
    return int(read_whole(f"{proc}/{pid}/task/{thread}/schedstat").split()[0])


def sleeps(pid: int, thread: int, proc: Path = PROC) -> bool:
    """Whether a thread waits, on no CPU and for none. Raises OSError if it is gone."""
    return read_stat(thread, proc / str(pid) / "task").state != "R"
