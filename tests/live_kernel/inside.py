"""Runs in the lab box: resident KVM guests with a NIC and a disk, in two availability sets in turn.

``python -m tests.live_kernel.inside [COUNT [MEMORY_MIB]]``, of which COUNT is 2 if not said; prints
where their configuration is. Their network is the lab's, which is transient: it ends with the
kernel, as many a network would.
"""

from __future__ import annotations

import sys
from functools import partial
from unittest import mock

from harness.core.timebase import Deadline
from harness.lab import guests
from harness.lab.specs import GuestSpec
from tests.clocks import set_right
from tests.live_kernel.disks import give
from tests.residents import changed

SETS = ("web", "db")
#: A round trip is long here, and a call of libvirt took 2.5 s while other work was on the machine.
CLOCK = "\n[clock]\nsamples = 40\nlag_tolerance_s = 20.0\n"


def specs(count: int = 2, memory_mib: int | None = None) -> list[GuestSpec]:
    """``lab-1`` and so on; ``memory_mib``: the RAM of each, if not the image's usual."""
    return [
        GuestSpec(
            f"lab-{n + 1}",
            "tiny",
            availability_set=SETS[n % len(SETS)],
            memory_mib=memory_mib,
            resident=True,
        )
        for n in range(count)
    ]


def main() -> None:
    """Boot the guests."""
    wanted = specs(*map(int, sys.argv[1:]))

    def say(line: str) -> None:
        sys.stderr.write(f"{line}\n")

    with_disks = partial(changed, {guest.name: give for guest in wanted})
    with mock.patch.object(guests, "domain_xml", with_disks):
        up = guests.up(wanted, deadline=Deadline.after(900), progress=say, accelerator="kvm")
    config = up.config_file.with_name("live.toml")
    config.write_text(up.config_file.read_text() + CLOCK)
    set_right([guest.name for guest in wanted], config)
    sys.stdout.write(f"{config}\n")


if __name__ == "__main__":
    main()
