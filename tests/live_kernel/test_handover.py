"""The host's kernel is replaced under two guests, by `harness run`: theirs is the RAM of before.

To another kernel, and back with a page in the region that is not the run's.
"""

from __future__ import annotations

from tests.live_kernel.enrolled import (
    GUESTS,
    configure,
    go_over,
    harness,
    last,
    record,
    refused,
    start,
    told,
)
from tests.live_kernel.machine import Machine

SEEN = (
    *("same-boot", "clock", "lag", "frozen"),
    *("host-kernel", "host-boot", "host-clock"),
)
#: What a run cannot see of guests that its connections do not outlive.
UNSEEN = {
    *("downtime", "canary", "processes", "connections"),
    *("mounts", "tcp-session", "disk", "timers"),
}


def it_is_refused(host: Machine, kernel: str, initrd: str) -> None:
    """A kernel that would take guests' RAM for its own; one that would end a guest."""
    line = [one for one in host.sh("cat /proc/cmdline").split() if not one.startswith("memmap=")]
    configure(host, kernel, initrd, cmdline=" ".join(line))
    assert "does not set aside 1024 MiB at 0x140000000" in refused(host, *GUESTS)
    configure(host, kernel, initrd)
    assert "lab-2 is not in the run" in refused(host, "lab-1")


def test_guests_go_on_under_another_kernel_and_a_foreign_page_is_not_believed(resident):
    """6.1 → 6.12: same guests, clocks right, a verdict; then a kernel that finds another page."""
    host = resident.host
    new, kernel, initrd = resident.other()
    old = host.sh("uname -r").strip()

    before = told(host)
    it_is_refused(host, kernel, initrd)
    configure(host, kernel, initrd)
    found = go_over(host, new, before, SEEN)
    for guest in found["guests"]:
        verdicts = {one["name"]: one["outcome"] for one in guest["checks"]}
        assert {verdicts[one] for one in UNSEEN & verdicts.keys()} == {"skip"}
        assert abs(guest["clock"]["after_correction"]["offset_s"]) <= 0.05
    assert "no dead runs" in harness(host, "recover")

    # Back: a page that is not the run's is as a kernel that has used the memory for itself.
    configure(host, *resident.kernels[old])
    page = "/var/lib/libvirt/qemu/ram/harness-handover"
    host.sh(
        f"(until [ -e /var/lib/harness/handover ] && [ -e {page} ]; do sleep 0.1; done; sleep 1;"
        f" printf x >>{page}) >/dev/null 2>&1 </dev/null & true"
    )
    already = start(host)
    host.wait("host", "harness: no guest is brought back", already)
    found = record(host)
    assert host.sh("uname -r").strip() == old
    assert (found["outcome"], found["exit_code"]) == ("error", 3), found  # none is paused
    assert host.sh("virsh list --name").split() == []
    assert "another kernel used this memory" in last(host, "journal.jsonl")
