"""What a process inherits, set to a known state: the first thing that every entry point does.

A parent hands down far more than arguments: ignored and blocked signals, timers, a umask, limits,
closed descriptors, a working directory that is gone, a PATH that begins with the current folder.
Each of them can change how a maintenance ends, and none of them is visible in a configuration.
"""

from __future__ import annotations

import gc
import os
import re
import resource
import signal
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from harness.core.streams import protect_output
from harness.core.trust import distrust

#: A parent that ignores one of these means it: ``nohup``, or a job in the background.
_PARENTS_CHOICE = frozenset({signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT})
#: Python itself ignores these, so that a write fails and does not kill.
_PYTHONS_CHOICE = frozenset({signal.SIGPIPE, signal.SIGXFSZ})
#: A job in the background must not be stopped, guests paused, because it writes to its terminal.
_TERMINAL_STOPS = (signal.SIGTTOU, signal.SIGTTIN)
#: Timers survive an exec: one that an ``alarm`` of the parent has armed kills a run later.
_TIMERS = (signal.ITIMER_REAL, signal.ITIMER_VIRTUAL, signal.ITIMER_PROF)
#: Limits that end or cripple a run while guests are paused: CPU time kills, the others make writes,
#: threads and memory fail.
_LIMITS = (
    resource.RLIMIT_CPU,
    resource.RLIMIT_FSIZE,
    resource.RLIMIT_AS,
    resource.RLIMIT_DATA,
    resource.RLIMIT_NPROC,
)
#: Descriptors that a run may need: a few for each of a hundred guests.
_DESCRIPTORS = 4096
#: Lists of folders, separated by colons, in which programs, libraries and modules are looked for.
#: BASH_ENV is a file that each script of bash runs first.
_SEARCH_PATHS = (
    *("PATH", "LD_LIBRARY_PATH", "GCONV_PATH"),
    *("PYTHONPATH", "PERL5LIB", "PERLLIB", "BASH_ENV"),
)
#: Lists of libraries; one without a slash is looked for where the system's are.
_LIBRARIES = ("LD_PRELOAD", "LD_AUDIT")
_SEPARATOR = dict.fromkeys((*_SEARCH_PATHS, *_LIBRARIES), re.compile(":"))
_SEPARATOR["LD_PRELOAD"] = re.compile("[: ]")
#: Puts the current folder onto Perl's path, and so onto that of packages' scripts.
_UNSAFE = ("PERL_USE_UNSAFE_INC",)
#: What is created is never writable for others, whatever the parent allows.
_OTHERS_MAY_NOT_WRITE = 0o022
#: So many new objects before the collector looks through them, in place of Python's 700: a command
#: is loaded for most of its CPU time, and nothing of what it loads is garbage. A run loads 75,000.
_NEW_OBJECTS = 100_000


def python_module(module: str, *arguments: str) -> list[str]:
    """Return the command that runs ``module`` with this interpreter, and nothing of the folder.

    ``-P`` keeps the current folder off the import path: with ``-m`` alone a ``json.py`` that lies
    there is run as us. ``-I`` would do so too, but it also drops PYTHONPATH and the user's
    site-packages, and the child must find the same ``harness`` as its parent did.
    """
    return [sys.executable, "-P", "-m", module, *arguments]


def settle_process() -> list[str]:
    """Set everything that was inherited to a known state; return warnings for a person.

    Call it first in a process, in its main thread, before a descriptor is opened or a thread is
    started. Never raises: what cannot be set is as before.
    """
    _open_standard_descriptors()
    protect_output()
    _reset_signals()
    _raise_limits()
    gc.set_threshold(_NEW_OBJECTS)
    os.umask(os.umask(_OTHERS_MAY_NOT_WRITE) | _OTHERS_MAY_NOT_WRITE)
    return [*_leave_lost_folder(), *_clean_search_paths()]


def _open_standard_descriptors() -> None:
    """A closed 0, 1 or 2 would be the number of the next file opened: the journal, say."""
    for number, mode in ((0, os.O_RDONLY), (1, os.O_WRONLY), (2, os.O_WRONLY)):
        try:
            os.fstat(number)
        except OSError:
            with suppress(OSError):  # no /dev/null: then nothing can be done
                opened = os.open(os.devnull, mode)
                if opened != number:
                    os.dup2(opened, number)
                    os.close(opened)
                os.set_inheritable(number, True)


def _reset_signals() -> None:
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    for timer in _TIMERS:
        with suppress(OSError):
            signal.setitimer(timer, 0)
    for number in signal.valid_signals() - _PARENTS_CHOICE - _PYTHONS_CHOICE:
        if signal.getsignal(number) is signal.SIG_IGN:
            # SIGCHLD above all: while it is ignored the kernel forgets how children ended, and a
            # program that failed is taken for one that returned 0.
            with suppress(OSError, ValueError):
                signal.signal(number, signal.SIG_DFL)
    for number in _TERMINAL_STOPS:
        signal.signal(number, signal.SIG_IGN)


def _raise_limits() -> None:
    for limit in _LIMITS:
        _raise_limit(limit, resource.RLIM_INFINITY)
    _raise_limit(resource.RLIMIT_NOFILE, _DESCRIPTORS)


def _raise_limit(limit: int, wanted: int) -> None:
    """Raise a soft limit to ``wanted``, the hard one too where that is allowed (root)."""
    soft, hard = resource.getrlimit(limit)
    if soft == resource.RLIM_INFINITY or (wanted != resource.RLIM_INFINITY and soft >= wanted):
        return
    unlimited = hard == resource.RLIM_INFINITY
    enough = unlimited or (wanted != resource.RLIM_INFINITY and hard >= wanted)
    with suppress(OSError, ValueError):  # not root, or a container that forbids it
        resource.setrlimit(limit, (wanted, hard if enough else wanted))
        return
    with suppress(OSError, ValueError):
        resource.setrlimit(limit, (hard, hard))


def _clean_search_paths() -> Iterator[str]:
    """For root nothing is run or loaded from the current folder, or where another user may write.

    An empty or relative entry stands for the current folder.
    """
    if os.geteuid() != 0:
        return
    for name in _UNSAFE:
        os.environ.pop(name, None)
    for name in (*_SEARCH_PATHS, *_LIBRARIES):
        said = os.environ.pop(name, None)
        if said is None:
            continue
        kept = []
        for entry in _SEPARATOR[name].split(said):
            why = _why_unsafe(entry, name in _LIBRARIES)
            if why is None:
                kept.append(entry)
            elif why:
                yield f"{name}: {entry} is left out: {why}"
        if name == "PYTHONPATH":
            _forget_imports(set(_SEPARATOR[name].split(said)) - set(kept))
        if kept or name == "PATH":
            os.environ[name] = os.pathsep.join(kept) or os.defpath


def _why_unsafe(entry: str, is_library: bool) -> str | None:
    """Return None for an entry that is safe, "" for one that needs no words."""
    if not os.path.isabs(entry):
        return None if is_library and entry and "/" not in entry else ""
    found = distrust(Path(entry))
    return f"{found.part} {found.why}" if found is not None else None


def _forget_imports(dropped: set[str]) -> None:
    """What PYTHONPATH should not have named is on this process's own path already."""
    with suppress(OSError):
        lost = {os.path.abspath(entry) for entry in dropped}
        sys.path[:] = [entry for entry in sys.path if os.path.abspath(entry) not in lost]


def _current_folder() -> str | None:
    try:
        return os.getcwd()
    except OSError:
        return None


def _leave_lost_folder() -> Iterator[str]:
    """A folder that was deleted has no path: everything that asks for one would fail."""
    if _current_folder() is None:
        os.chdir("/")
        yield "the current folder does not exist any more; going on in /"
