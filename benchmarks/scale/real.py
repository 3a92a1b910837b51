"""Real guests: one lab, and maintenances of more and more of its guests."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import product
from typing import Any

from benchmarks.compare import contenders, floor
from benchmarks.compare.lab import bench
from benchmarks.scale.peaks import watched
from harness.lab.specs import GuestSpec

Sample = dict[str, Any]
#: One vCPU and as little as the tiny image runs in: many fit into a small machine.
_MEMORY_MIB = 96


def samples(counts: Sequence[int], repeats: int) -> Iterator[Sample]:
    """Yield what each way took with so many guests at once: A B C A B C …, largest count last."""
    specs = [GuestSpec(f"g{n:02}", "tiny", memory_mib=_MEMORY_MIB) for n in range(max(counts))]
    with bench(specs) as lab:
        ways: dict[str, Callable[[Sequence[str]], Sample]] = {
            "harness": partial(_ours, contenders.harness),
            "harness, unwatched": partial(_ours, contenders.unwatched),
            "virsh script": lambda guests: vars(contenders.virsh_script(guests)),
            "floor": partial(floor.api_ms, lab.connection),
        }
        for _, count, (name, way) in product(range(repeats), sorted(counts), ways.items()):
            guests = lab.names[:count]
            sample = way(guests)
            worst = max(lab.residuals(guests).items(), key=lambda one: one[1])
            yield {"way": name, "guests": count, "residual_ms": worst[1][0], **sample}


def _ours(contender: contenders.Contender, guests: Sequence[str]) -> Sample:
    with watched() as peaks:
        done = contender(guests)
    return {**vars(done), **peaks}
