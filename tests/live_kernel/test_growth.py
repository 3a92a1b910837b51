"""How the pause of a replaced kernel grows: by the guest, and not by the RAM that a guest has.

Each time from the old kernel to the new one. Prints a table for each, of which
docs/explanation/kernel.md has the sums.
"""

from __future__ import annotations

import shlex
import sys

from tests.live_kernel.enrolled import configure, go_over, harness, told
from tests.live_kernel.test_handover import SEEN

SMALL_MIB, LARGE_MIB, FILLED_MIB = 128, 640, 256
#: More RAM that has been written to, and what is in it.
FILL = f"""for n in $(seq {FILLED_MIB // 2}); do cat /blob; done >/filled
sha256sum /filled >/filled.sum"""
AS_FILLED = "sha256sum -c /filled.sum"
#: Nothing of a guest's RAM is copied: what is left is noise.
FLAT = 1.5


def test_four_guests_go_over_and_one_takes_no_longer_for_its_ram(enrolled):
    """One guest, the same with five times the RAM, then four at once."""
    pauses_s = {}
    for count, memory_mib in ((1, SMALL_MIB), (1, LARGE_MIB), (4, SMALL_MIB)):
        enrolled.run_old()
        guests = enrolled.boot_guests(count, memory_mib)
        assert len(guests) == count
        large = guests if memory_mib == LARGE_MIB else ()
        for name in large:
            harness(enrolled.host, "lab", "ssh", name, FILL)
        pauses_s[count, memory_mib] = _hop(enrolled, guests)
        for name in large:
            assert "OK" in harness(enrolled.host, "lab", "ssh", name, AS_FILLED)
    sys.stdout.write(f"{pauses_s}\n")
    assert pauses_s[1, LARGE_MIB] < FLAT * pauses_s[1, SMALL_MIB]


def _hop(enrolled, guests) -> float:
    """Seconds that the guest was paused that waited longest."""
    release, kernel, initrd = enrolled.other()
    sys.stdout.write(f"\n{shlex.join(guests)}: to {release}\n")
    configure(enrolled.host, kernel, initrd)
    found = go_over(enrolled.host, release, told(enrolled.host, guests), SEEN)
    return max(one["pause_window_s"] for one in found["guests"])
