"""A libvirtd for a moment: before systemd starts, to bring guests back, and then no more.

The one that systemd starts takes the guests over, as after any restart of libvirtd. See
docs/adr/0040-kernel-by-init.md for what has to be true before it starts.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

from harness.core.errors import InfrastructureError
from harness.core.files import public_folder
from harness.core.timebase import Deadline, NotYet, wait_for
from harness.host.kernel import drivers as needed
from harness.host.kernel import early, qemus_known

SOCKET = Path("/run/libvirt/libvirt-sock")
CONFIGURATION = Path("/etc/libvirt/qemu.conf")
_END_S = 10.0


@contextmanager
def brief_libvirtd(
    folder: Path, known: Mapping[str, str], drivers: Sequence[str], deadline: Deadline
) -> Iterator[Callable[[], None]]:
    """Have a libvirtd for the time of a ``with``, and something to wait with until it answers.

    Its QEMUs outlive it.

    ``folder`` is for what it is given, and for its log; ``known`` are the entries of its cache;
    ``drivers`` are those of :mod:`harness.host.kernel.drivers` that it has, none: all that are
    there. Both raise InfrastructureError, and waiting DeadlineExpired.
    """
    covered: list[Path] = []
    try:
        _be_known(folder, known, covered)
        with (folder / "libvirtd.log").open("w") as log:
            daemon = subprocess.Popen(
                ["libvirtd"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, **needed.only(drivers, folder / "drivers")},
            )
        try:
            yield partial(_await, daemon, deadline)
        finally:
            _end(daemon)
    except OSError as error:
        raise InfrastructureError(f"{error.filename}: {error.strerror}") from error
    finally:
        for place in covered:
            early.uncover(place)


def _be_known(folder: Path, known: Mapping[str, str], covered: list[Path]) -> None:
    """Have libvirt ask no QEMU anything, and have QEMU write its log by itself.

    A virtlogd of that time would be in the way of systemd's.
    """
    if known and qemus_known.CACHE.is_dir():
        cpuid = qemus_known.cpuid_of_kvm()
        cache = public_folder(folder / "capabilities")
        for name, entry in known.items():
            (cache / name).write_text(qemus_known.with_cpuid(entry, cpuid))
        early.cover(qemus_known.CACHE, cache)
        covered.append(qemus_known.CACHE)
    lines = CONFIGURATION.read_text().splitlines() if CONFIGURATION.exists() else []
    if not lines:
        return
    ours = folder / "qemu.conf"
    kept = [one for one in lines if not one.lstrip().startswith("stdio_handler")]
    ours.touch(mode=0o600)
    ours.write_text("\n".join([*kept, 'stdio_handler = "file"', ""]))
    early.cover(CONFIGURATION, ours)
    covered.append(CONFIGURATION)


def _await(daemon: subprocess.Popen[bytes], deadline: Deadline) -> None:
    def look() -> None:
        if daemon.poll() is not None:
            raise InfrastructureError(f"libvirtd ended with {daemon.returncode}")
        if not SOCKET.exists():
            raise NotYet("it has no socket yet")

    wait_for(look, what="waiting for libvirtd", deadline=deadline, interval_s=0.02)


def _end(daemon: subprocess.Popen[bytes]) -> None:
    daemon.send_signal(signal.SIGTERM)
    with suppress(subprocess.TimeoutExpired):
        daemon.wait(_END_S)
        return
    daemon.kill()
    daemon.wait()
