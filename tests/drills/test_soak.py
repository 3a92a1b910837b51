"""Random instants of death; `make soak N=200` is the long one.

Requires: the session's libvirtd. Leaves behind: nothing.
"""

from __future__ import annotations

import random

from benchmarks.soak import soak


def test_twenty_kills_at_random_instants_strand_nobody(lab):
    """And every clock is mended by recover."""
    seed = random.randrange(1 << 30)
    tally = soak(20, seed)
    assert tally.is_clean, (seed, tally)
    assert tally.kills.total() == 20
