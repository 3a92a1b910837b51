"""What may break beside a run, before the run is killed: for the drills and for the soak.

Each fault is a context manager: laid on entry, undone on exit as an administrator would undo it.
What an administrator could not undo (a deleted folder) stays as it is.
"""

from __future__ import annotations

import os
import re
import resource
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from harness.core.timebase import Deadline, NotYet, wait_for

ODD_LINES = b'[]\n{"event": "resumed"}\n{"event": 7}\nnull\n\xff\xfe\n{"event": "pausing"}\n'


@dataclass(frozen=True)
class Place:
    """Where a fault is laid."""

    state_dir: Path
    folder: Path
    """The run's."""
    guardian: int
    """Its pid."""


@contextmanager
def renamed(place: Place) -> Iterator[None]:
    """The state folder has another name."""
    elsewhere = place.state_dir.with_name(f"{place.state_dir.name}-elsewhere")
    place.state_dir.rename(elsewhere)
    yield
    if place.state_dir.exists():  # a run that goes on makes it again
        shutil.rmtree(place.state_dir)
    elsewhere.rename(place.state_dir)


@contextmanager
def linked(place: Place) -> Iterator[None]:
    """The state folder is a link to an empty one."""
    elsewhere = place.state_dir.with_name(f"{place.state_dir.name}-elsewhere")
    other = place.state_dir.with_name(f"{place.state_dir.name}-other")
    place.state_dir.rename(elsewhere)
    other.mkdir()
    place.state_dir.symlink_to(other)
    yield
    place.state_dir.unlink()
    elsewhere.rename(place.state_dir)


@contextmanager
def deleted(place: Place) -> Iterator[None]:
    """The state folder is gone."""
    shutil.rmtree(place.state_dir, ignore_errors=True)  # what is being written comes again
    yield


@contextmanager
def truncated(place: Place) -> Iterator[None]:
    """The journal is empty."""
    os.truncate(place.folder / "journal.jsonl", 0)
    yield


@contextmanager
def a_list(place: Place) -> Iterator[None]:
    """The journal holds a line that is JSON and no entry."""
    _append(place, b"[]\n")
    yield


@contextmanager
def odd_lines(place: Place) -> Iterator[None]:
    """The journal holds all that it must not, and ends in the middle of a line."""
    _append(place, ODD_LINES + b'{"ev')
    yield


def _append(place: Place, lines: bytes) -> None:
    with open(place.folder / "journal.jsonl", "ab") as file:
        file.write(lines)


@contextmanager
def no_descriptors(place: Place) -> Iterator[None]:
    """What the guardian has open stays open; it can open nothing more."""
    most = max(int(name) for name in os.listdir(f"/proc/{place.guardian}/fd")) + 1
    resource.prlimit(place.guardian, resource.RLIMIT_NOFILE, (most, most))
    yield


@contextmanager
def no_memory(place: Place) -> Iterator[None]:
    """The guardian gets no more memory, and so no thread: its stack has no room."""
    status = Path(f"/proc/{place.guardian}/status").read_text(encoding="utf-8")
    found = re.search(r"VmSize:\s+(\d+)", status)
    if found is None:
        raise ProcessLookupError(place.guardian)
    size_bytes = int(found[1]) * 1024
    resource.prlimit(place.guardian, resource.RLIMIT_AS, (size_bytes, size_bytes))
    yield


@contextmanager
def no_tasks(place: Place) -> Iterator[None]:
    """pids.max of the guardian's control group is reached (version 1 of control groups)."""
    hierarchy = place.state_dir.with_name("pids")
    hierarchy.mkdir(exist_ok=True)
    subprocess.run(["mount", "-t", "cgroup", "-o", "pids", "pids", hierarchy], check=True)
    group = hierarchy / f"harness-fault-{os.getpid()}-{place.guardian}"
    try:
        group.mkdir()
        try:
            (group / "cgroup.procs").write_text(str(place.guardian))
            (group / "pids.max").write_text("1")
            yield
        finally:
            wait_for(lambda: _remove(group), what="its end", deadline=Deadline.after(20))
    finally:
        subprocess.run(["umount", "--lazy", hierarchy], check=True)


def _remove(group: Path) -> None:
    try:
        group.rmdir()
    except OSError as error:
        raise NotYet(str(error)) from error


FAULTS: dict[str, Callable[[Place], AbstractContextManager[None]]] = {
    "the state folder is renamed": renamed,
    "the state folder is deleted": deleted,
    "the state folder is a link to another": linked,
    "the journal is truncated": truncated,
    "the journal holds a list": a_list,
    "the journal holds odd lines": odd_lines,
    "no descriptors": no_descriptors,
    "no memory, no threads": no_memory,
    "pids.max": no_tasks,
}
