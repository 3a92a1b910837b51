"""Real guests: one lab, and maintenances of more and more of its guests."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import product
from typing import Any

from benchmarks.compare import contenders, floor
from benchmarks.compare.lab import Bench, bench
from benchmarks.scale import watched_floor
from benchmarks.scale.peaks import watched
from harness.core.timebase import Deadline
from harness.lab.specs import GuestSpec

Sample = dict[str, Any]
#: One vCPU and as little as the tiny image runs in: many fit into a small machine.
_MEMORY_MIB = 96
#: Sixty emulated guests on two cores take longer than the defaults allow.
_PATIENCE = {"HARNESS_PREPARE_TIMEOUT_S": "600", "HARNESS_MEND_TIMEOUT_S": "300"}


def samples(counts: Sequence[int], repeats: int, limit_s: float) -> Iterator[Sample]:
    """Yield what each way took with so many guests at once: A B C A B C …, largest count last.

    When ``limit_s`` are over, only what was not measured at all is; guests that take no part are
    paused: what they do idly is work for the host that all share.
    """
    specs = [GuestSpec(f"g{n:02}", "tiny", memory_mib=_MEMORY_MIB) for n in range(max(counts))]
    os.environ.update(_PATIENCE)
    until = Deadline.after(limit_s)
    with bench(specs) as lab:
        ways: dict[str, Callable[[Sequence[str]], Sample]] = {
            "harness": partial(_ours, contenders.harness),
            "harness, unwatched": partial(_ours, contenders.unwatched),
            "virsh script": lambda guests: vars(contenders.virsh_script(guests)),
            "floor": partial(floor.api_ms, lab.connection),
            "floor, watched": partial(watched_floor.api_ms, lab),
        }
        for number, count in product(range(repeats), sorted(counts)):
            with _alone(lab, count):
                for name, way in ways.items():
                    if number and until.expired:
                        return
                    yield _sample(lab, lab.names[:count], name, way)


def _sample(
    lab: Bench, guests: Sequence[str], name: str, way: Callable[[Sequence[str]], Sample]
) -> Sample:
    """One maintenance; what it ended with instead, if it did, is printed and no reason to end."""
    try:
        sample = way(guests)
    except SystemExit as error:
        print(error, flush=True)
        return {"way": name, "guests": len(guests)}
    worst = max(lab.residuals(guests).items(), key=lambda one: one[1])
    return {"way": name, "guests": len(guests), "residual_ms": worst[1][0], **sample}


@contextmanager
def _alone(lab: Bench, count: int) -> Iterator[None]:
    """Have only the first ``count`` guests run."""
    others = [lab.connection.lookupByName(name) for name in lab.names[count:]]
    for guest in others:
        guest.suspend()
    try:
        yield
    finally:
        for guest in others:
            guest.resume()


def _ours(contender: contenders.Contender, guests: Sequence[str]) -> Sample:
    with watched() as peaks:
        done = contender(guests)
    return {**vars(done), **peaks}
