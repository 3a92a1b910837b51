"""The host's kernel is replaced under two guests, by `harness run`: theirs is the RAM of before.

To another kernel, and back with a page in the region that is not the run's.
"""

from __future__ import annotations

import json
import re
import shlex
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.live_kernel.clock import MOVE_RTC, ahead_s
from tests.live_kernel.enrolled import (
    CONFIG,
    GUESTS,
    STATE,
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


#: By how much the clock that a new kernel reads is wrong; what the host's own may be off, after it.
RTC_AHEAD_S, CLOCK_S = 3, 0.05
#: As a guest asks it of the metadata service.
ASK = (
    "wget -q -O - --header 'Metadata: true' "
    "'http://169.254.169.254/metadata/scheduledevents?api-version=2020-07-01'"
)
#: The unit that is installed, for the state folder and the configuration of these tests.
PACKAGED = Path(__file__).parents[2] / "packaging/systemd/harness-events.service"


def serve_events(host: Machine) -> None:
    """Have the host answer its guests, from now on and after each boot."""
    unit = PACKAGED.read_text().replace("/etc/harness/harness.toml", CONFIG)
    unit = unit.replace("/var/lib/harness", STATE)
    host.sh("cat >/etc/systemd/system/harness-events.service", unit.encode())
    host.sh("systemctl daemon-reload && systemctl enable --now harness-events")
    host.sh(f"until test -s {STATE}/events.db; do sleep 0.2; done")


def it_was_notified(host: Machine, found: dict[str, Any]) -> None:
    """Both guests saw an event of theirs, and that it is over; the run is in the host's history."""
    (notice,) = [one["notice"] for one in found["update_domains"]]
    assert len(notice["event_ids"]) == len(GUESTS)  # a set each
    assert notice["announced_at"] < notice["started_at"] < notice["removed_at"]
    for guest in GUESTS:
        said = json.loads(harness(host, "lab", "ssh", guest, ASK))
        assert said["Events"] == [], said
        assert said["DocumentIncarnation"] >= 3  # scheduled, started, removed
    assert found["run_id"] in harness(host, "history", "list", "--json")


def its_clock_goes_on(
    before: tuple[float, float], after: tuple[float, float], found: dict[str, Any]
) -> None:
    """As this machine sees it, and though the new kernel read an RTC that is wrong by seconds."""
    sys.stdout.write(f"ahead of this machine, known to: {before}, {after} s\n")
    assert abs(after[0] - before[0]) <= CLOCK_S + before[1] + after[1]
    for guest in found["guests"]:
        (said,) = [one["detail"] for one in guest["checks"] if one["name"] == "host-clock"]
        moved = re.search(r"set by (\S+) s", said)
        assert moved is not None
        assert float(moved[1]) == pytest.approx(-RTC_AHEAD_S, abs=1.5)  # it has whole seconds


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
    serve_events(host)
    right = ahead_s(host)
    host.sh(shlex.join(["python3", "-c", MOVE_RTC, str(RTC_AHEAD_S)]))
    found = go_over(host, new, before, SEEN, "--notify", "5s")
    its_clock_goes_on(right, ahead_s(host), found)
    it_was_notified(host, found)
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
