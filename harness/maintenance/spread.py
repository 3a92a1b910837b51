"""Members of availability sets over update domains: as far apart as they go; pure."""

from __future__ import annotations

from collections.abc import Sequence


def far_apart(sizes: Sequence[int], count: int) -> list[list[int]]:
    """Return for sets of these sizes the domain of each member; no domain stays empty."""
    load = [0] * count
    places = []
    for size in sizes:
        steps = [index * count // size for index in range(size)]
        turns = [[(step + turn) % count for step in steps] for turn in range(count)]
        best = min(turns, key=lambda turned: sum(load[place] for place in turned))
        for place in best:
            load[place] += 1
        places.append(best)
    if all(load):
        return places
    starts = [sum(sizes[:index]) for index in range(len(sizes))]
    return [
        [(start + index) % count for index in range(size)]
        for start, size in zip(starts, sizes, strict=True)
    ]
