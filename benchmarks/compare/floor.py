"""What nobody can beat: bare libvirt calls from a warm process, QMP, a warm SSH round trip.

Guests stay paused for as long as the others' update takes: a guest that was paused for longer has
more to catch up with when it is resumed, and is in the way of the next one's resume.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

import libvirt
import libvirt_qemu

from benchmarks.compare.contenders import UPDATE_S
from harness.checks.probes.group import GuestProbes
from harness.clock.sampling import Sampler
from harness.core.timebase import SYSTEM_CLOCK, Deadline, Stopwatch

Calls = Sequence[Callable[[], object]]


def api_ms(
    connection: libvirt.virConnect, guests: Sequence[str], watching: Sequence[GuestProbes] = ()
) -> dict[str, float]:
    """``virDomainSuspend`` of all guests concurrently, then ``virDomainResume``.

    ``watching``: probes at work, which learn of the edges of the pauses as a run's do.
    """
    domains = [connection.lookupByName(name) for name in guests]
    return _both(
        [domain.suspend for domain in domains], [domain.resume for domain in domains], watching
    )


def qmp_ms(connection: libvirt.virConnect, guests: Sequence[str]) -> float:
    """QMP ``stop`` and ``cont``, concurrently, through libvirt's passthrough."""
    domains = [connection.lookupByName(name) for name in guests]

    def say(command: str) -> Calls:
        text = f'{{"execute": "{command}"}}'
        return [
            lambda domain=domain: libvirt_qemu.qemuMonitorCommand(domain, text, 0)
            for domain in domains
        ]

    return _both(say("stop"), say("cont"))["overhead_ms"]


def ssh_round_trip_ms(sampler: Sampler) -> float:
    """The best of eight questions to a loop that is running already."""
    return 2000 * sampler.read(8, Deadline.after(30)).uncertainty_s


def _both(pauses: Calls, resumes: Calls, watching: Sequence[GuestProbes] = ()) -> dict[str, float]:
    for one in watching:
        one.pausing()
    pausing_ms = _concurrently_ms(pauses)
    update = Deadline.after(UPDATE_S)
    for one in watching:
        one.paused()
    SYSTEM_CLOCK.sleep(update.remaining_s())
    for one in watching:
        one.resuming()
    resuming_ms = _concurrently_ms(resumes)
    return {
        "overhead_ms": pausing_ms + resuming_ms,
        "pausing_ms": pausing_ms,
        "resuming_ms": resuming_ms,
    }


def _concurrently_ms(calls: Calls) -> float:
    watch = Stopwatch()
    threads = [threading.Thread(target=call) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return 1000 * watch.elapsed_s()
