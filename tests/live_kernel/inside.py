"""Runs in the lab box: two resident KVM guests with a NIC, each of an availability set of its own.

``python -m tests.live_kernel.inside``; prints where their configuration is. Their network is the
lab's, which is transient: it ends with the kernel, as many a network would.
"""

from __future__ import annotations

import sys

from harness.core.timebase import Deadline
from harness.lab import guests
from harness.lab.specs import GuestSpec
from tests.clocks import set_right

GUESTS = tuple(
    GuestSpec(name, "tiny", availability_set=of_set, resident=True)
    for name, of_set in (("lab-1", "web"), ("lab-2", "db"))
)
#: A round trip is long here, and a call of libvirt took 2.5 s while other work was on the machine.
CLOCK = "\n[clock]\nsamples = 40\nlag_tolerance_s = 20.0\n"


def main() -> None:
    """Boot the guests."""

    def say(line: str) -> None:
        sys.stderr.write(f"{line}\n")

    up = guests.up(GUESTS, deadline=Deadline.after(900), progress=say, accelerator="kvm")
    config = up.config_file.with_name("live.toml")
    config.write_text(up.config_file.read_text() + CLOCK)
    set_right([guest.name for guest in GUESTS], config)
    sys.stdout.write(f"{config}\n")


if __name__ == "__main__":
    main()
