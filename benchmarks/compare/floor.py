"""What nobody can beat: bare libvirt calls from a warm process, QMP, a warm SSH round trip."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

import libvirt
import libvirt_qemu

from harness.clock.sampling import Sampler
from harness.timebase import Deadline, Stopwatch


def api_ms(connection: libvirt.virConnect, guests: Sequence[str]) -> float:
    """``virDomainSuspend`` of all guests concurrently, then ``virDomainResume``."""
    domains = [connection.lookupByName(name) for name in guests]
    watch = Stopwatch()
    _concurrently([domain.suspend for domain in domains])
    _concurrently([domain.resume for domain in domains])
    return 1000 * watch.elapsed_s()


def qmp_ms(connection: libvirt.virConnect, guests: Sequence[str]) -> float:
    """QMP ``stop`` and ``cont``, concurrently, through libvirt's passthrough."""
    domains = [connection.lookupByName(name) for name in guests]

    def say(command: str) -> list[Callable[[], object]]:
        text = f'{{"execute": "{command}"}}'
        return [
            lambda domain=domain: libvirt_qemu.qemuMonitorCommand(domain, text, 0)
            for domain in domains
        ]

    watch = Stopwatch()
    _concurrently(say("stop"))
    _concurrently(say("cont"))
    return 1000 * watch.elapsed_s()


def ssh_round_trip_ms(sampler: Sampler) -> float:
    """The best of eight questions to a loop that is running already."""
    return 2000 * sampler.read(8, Deadline.after(30)).uncertainty_s


def _concurrently(calls: Sequence[Callable[[], object]]) -> None:
    threads = [threading.Thread(target=call) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
