"""Runs in the lab box: KVM guests in two update domains, and a configuration for them.

``python -m tests.kvm.inside [NAME]...``; without a name, all of them.

kvm-1's RTC follows the host's wall clock, kvm-2's stands still with the guest. Their clocks are
right: a guest boots up to a second fast or slow, and a fast one that is paused for less stays fast,
which a run is right to fail.
"""

from __future__ import annotations

import sys

from harness.core.errors import LabError
from harness.core.timebase import Deadline
from harness.lab import guests
from harness.lab.specs import GuestSpec
from tests.clocks import set_right

GUESTS = (
    GuestSpec("kvm-1", "debian", update_domain="0", availability_set="web"),
    GuestSpec("kvm-2", "debian", update_domain="1", availability_set="web", rtc_track="guest"),
)
#: More samples than usual find a quick round trip under emulation too; and there a call of libvirt
#: takes tenths of a second, on a busy machine a whole one, so the pause itself is known no better.
#: The tests look closer: the lag must lie between the pause's inner and its outer bound.
CLOCK = """
[clock]
samples = 40
lag_tolerance_s = 2.0
"""
#: Under emulated SVM a guest resets itself in its first seconds now and then (two of some fifteen
#: boots). That guest is gone, and so is the lab; the next one does it.
ATTEMPTS = 3


def main() -> None:
    """Boot the guests that are named; print where their configuration is."""

    def say(line: str) -> None:
        sys.stderr.write(line + "\n")

    wanted = [guest for guest in GUESTS if guest.name in sys.argv[1:]] or GUESTS
    for left in reversed(range(ATTEMPTS)):
        try:
            up = guests.up(wanted, deadline=Deadline.after(300), progress=say, accelerator="kvm")
            break
        except LabError as error:
            say(str(error))
            if not left:
                raise
    config = up.config_file.with_name("kvm.toml")
    config.write_text(up.config_file.read_text() + CLOCK)
    set_right([guest.name for guest in wanted], config)
    sys.stdout.write(f"{config}\n")


if __name__ == "__main__":
    main()
