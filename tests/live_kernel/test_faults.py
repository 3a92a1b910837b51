"""What goes wrong while the host's kernel is replaced: by faults, in an emulated host."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.live_kernel.aftermath import (
    another_recover_changes_nothing,
    events,
    kill_when_parked,
    nothing_is_left,
    undone_by_its_guardian,
)
from tests.live_kernel.enrolled import (
    BUDGET_S,
    CONFIG,
    GUESTS,
    Enrolled,
    configure,
    last,
    record,
    refused,
    start,
    told,
)
from tests.live_kernel.machine import Machine

#: The kernel refuses the call as it would for a program without the right to it.
REFUSED = (
    "systemd-run --quiet --wait --collect --pipe -p SystemCallFilter=~reboot"
    f" -p SystemCallErrorNumber=EPERM --setenv=HARNESS_CONFIG={CONFIG} --setenv=HOME=/root"
)
#: The call kills who makes it, when disks are read-only: the run, and nobody else of its unit.
KILLED = (
    "systemd-run --quiet --wait --collect --pipe -p SystemCallFilter=~reboot -p KillMode=process"
    f" -p LimitCORE=0 --setenv=HARNESS_CONFIG={CONFIG} --setenv=HOME=/root"
)
#: libvirt asks it before it starts a guest, and starts none that it says no to.
HOOKS = "/etc/libvirt/hooks"
HOOK = """#!/bin/sh
[ "$1 $2" != "lab-2 prepare" ] || [ ! -e /root/refuse ]
"""
#: Who brings guests back is killed when one runs already, as a want of memory would do it.
KILLER = """#!/bin/sh
[ "$2" = prepare ] && [ ! -e /root/killed ] || exit 0
grep -qs 'lab-. runs' /run/harness/thaw/log || exit 0
pkill -KILL -f harness.maintenance.thaw.program && echo killed >/root/killed
exit 1
"""


def test_a_kexec_that_is_refused_leaves_guests_and_disks_as_they_were(resident):
    """The disks are read-only by then; the run goes on, and says what was refused."""
    host, before = resident.host, told(resident.host)
    configure(host, *resident.other()[1:])
    words = shlex.join(["harness", "run", *GUESTS, "--budget", str(BUDGET_S)])
    assert host.sh(f"{REFUSED} {words} >/root/run.log 2>&1; echo $?").strip() == "3"
    found = [one["event"] for one in events(resident)]
    assert "stayed" in found
    assert "arrived" not in found
    written = json.loads(last(host, "run.json"))
    assert (written["outcome"], written["exit_code"]) == ("error", 3)
    assert "kexec was refused" in json.dumps(written)
    assert told(host) == before
    nothing_is_left(resident)
    another_recover_changes_nothing(resident)


def test_a_run_that_is_killed_before_it_leaves_is_undone_by_its_guardian(resident):
    """In place; what was prepared for another kernel is gone with the next recover."""
    host, before = resident.host, told(resident.host)
    configure(host, *resident.other()[1:])
    kill_when_parked(host)
    undone_by_its_guardian(resident, before)


def test_a_run_that_is_killed_when_disks_are_read_only_is_undone_by_its_guardian(resident):
    """Between `leaving` and the kexec: disks are written to again, and guests go on in place."""
    host, before = resident.host, told(resident.host)
    configure(host, *resident.other()[1:])
    words = shlex.join(["harness", "run", *GUESTS, "--budget", str(BUDGET_S)])
    host.sh(f"{KILLED} {words} >/root/run.log 2>&1 || true")
    running = "virsh list --state-running --name | wc -w"
    host.sh(f"until [ $({running}) = {len(GUESTS)} ]; do sleep 1; done")
    found = events(resident)
    assert "leaving" in [one["event"] for one in found]
    assert "arrived" not in [one["event"] for one in found]
    undone_by_its_guardian(resident, before)


def test_a_guest_that_is_refused_is_reported_and_not_lost_and_the_other_one_goes_on(resident):
    """libvirt does not start it; it stays parked until the reason is gone, whoever asks."""
    host, before = on_the_old_kernel(resident)
    configure(host, *resident.kernels[resident.old])
    with hooked(host, HOOK):
        host.sh("touch /root/refuse")
        try:
            already = start(host)
            host.wait("host", "harness: lab-2 is not back", already)
            host.wait("host", "harness: lab-1 runs", already)
            host.wait("host", "Debian GNU/Linux", already)
            # Who finishes it tries again; a person is shown what it would see.
            host.sh("until journalctl -u harness-complete | grep -q status=4; do sleep 2; done")
            host.sh("systemctl stop harness-complete")
            assert host.sh("virsh list --state-running --name").split() == ["lab-1"]
            said = host.sh(f"HARNESS_CONFIG={CONFIG} harness recover 2>&1; echo exit code $?")
            assert said.endswith("exit code 4\n"), said
            assert "lab-2" in said
        finally:
            host.sh("rm -f /root/refuse")
        said = host.sh(f"HARNESS_CONFIG={CONFIG} harness recover 2>&1; echo exit code $?")
        assert said.endswith("exit code 0\n"), said
    assert told(host) == before, said
    assert json.loads(last(host, "run.json"))["outcome"] == "pass", said
    each_was_thawed_once(resident)


def test_a_kernel_that_panics_leads_back_to_the_old_one_where_guests_go_on(resident):
    """By a reset that keeps memory; the record is a FAIL which says so."""
    host, before = on_the_old_kernel(resident)
    line = host.sh("cat /proc/cmdline").strip()
    configure(host, *resident.kernels[resident.new], cmdline=f"{line} rdinit=/none panic=1")
    with host.kept_by_a_reset():
        already = start(host)
        host.wait("host", "Debian GNU/Linux", already)
        found = record(host)
    guests_go_on_here(resident, found, before)


#: systemd's, which opens the watchdog and tells it that the host lives.
ARMED = """mkdir -p /etc/systemd/system.conf.d
printf '[Manager]\\nRuntimeWatchdogSec={}\\n' >/etc/systemd/system.conf.d/test.conf
systemctl daemon-reexec
until [ "$(cat /sys/class/watchdog/watchdog0/timeout)" = {} ]; do sleep 0.2; done
"""
#: Else its driver stops it when the kernel is left, as many do.
LASTING = """modprobe --remove wdat_wdt watchdog
modprobe watchdog stop_on_reboot=0 && modprobe wdat_wdt
"""


def test_a_kernel_that_hangs_is_left_by_a_watchdog_and_guests_go_on_in_the_old_one(resident):
    """One that systemd has armed counts on; one that would not wait for guests is refused."""
    host, before = on_the_old_kernel(resident)
    line = host.sh("cat /proc/cmdline").strip()
    kernel = resident.kernels[resident.new]
    configure(host, *kernel, cmdline=f"{line} rdinit=/none panic=0", expected_s=60)
    try:
        host.sh(LASTING + ARMED.format(379, 379))
        assert "it waits 379 s for a sign of life, and 380 s" in refused(host, *GUESTS)
        host.sh(ARMED.format(380, 380))
        assert "is reset by watchdog0" in host.doctor()["replacing the kernel"][1]
        with host.kept_by_a_reset():
            already = start(host)
            host.wait("host", "Kernel panic", already)
            hung = len(host.lines["host"])
            host.wait("host", "Debian GNU/Linux", hung)
            found = record(host)
    finally:
        host.sh("rm /etc/systemd/system.conf.d/test.conf && systemctl daemon-reexec")
    guests_go_on_here(resident, found, before)


def test_a_reset_after_leaving_was_written_has_the_guests_go_on_in_the_old_kernel(resident):
    """Disks are read-only by then, and the next kernel has not begun: memory is as it was."""
    host, before = on_the_old_kernel(resident)
    configure(host, *resident.kernels[resident.new])
    with host.kept_by_a_reset():
        already = start(host)
        host.wait("host", "sysrq: Emergency Remount", already, each_s=0.01)
        host.reset()
        host.wait("host", "Debian GNU/Linux", already)
        found = record(host)
    assert not any("harness: init" in line.text for line in host.lines["host"][already:])
    guests_go_on_here(resident, found, before)


def test_a_reset_when_one_guest_runs_again_thaws_the_other_one_and_never_that_one_twice(resident):
    """It has written to its disk since: its old state is gone, and that it has ended is said."""
    host, before = on_the_old_kernel(resident)
    configure(host, *resident.kernels[resident.new])
    with host.kept_by_a_reset():
        already = start(host)
        runs = host.wait("host", r"harness: lab-. runs", already, each_s=0.01)
        host.reset()
        reset = len(host.lines["host"])
        host.wait("host", "Debian GNU/Linux", reset)
        found = record(host)
    (first,) = [name for name in GUESTS if name in runs.text]
    (second,) = [name for name in GUESTS if name != first]
    assert host.sh("virsh list --state-running --name").split() == [second], found
    assert told(host, (second,)) == {second: before[second]}
    assert (found["outcome"], found["exit_code"]) == ("error", 3), found
    assert f"{first}: has ended" in json.dumps(found)
    each_was_thawed_once(resident)


def test_a_program_that_is_killed_between_two_guests_leaves_the_other_one_to_the_unit(resident):
    """By a hook of libvirt's, which is asked before the second one starts."""
    host, before = on_the_old_kernel(resident)
    configure(host, *resident.kernels[resident.new])
    with hooked(host, KILLER):
        already = start(host)
        host.wait("host", "harness: lab-. runs", already)
        host.wait("host", "Debian GNU/Linux", already)
        found = record(host)
    assert host.sh("cat /root/killed").strip() == "killed"
    assert told(host) == before
    assert found["outcome"] == "pass", found
    each_was_thawed_once(resident)


def test_power_that_was_lost_is_told_and_nothing_is_claimed(resident):
    """A cold boot: RAM is gone, libvirt starts, and no guest is brought back by what is left."""
    host, _ = on_the_old_kernel(resident)
    configure(host, *resident.kernels[resident.new])
    already = start(host)
    host.wait("host", "sysrq: Emergency Remount", already, each_s=0.01)
    host.cut()
    host.boot()
    found = record(host)
    assert (found["outcome"], found["exit_code"]) == ("error", 3), found  # none is paused
    assert "the memory was lost" in last(host, "journal.jsonl")
    assert not [one for one in events(resident) if one["event"] == "consumed"]
    assert host.sh("virsh list --all --with-managed-save --name").split() == []
    assert host.sh("virsh list --name").split() == []
    nothing_is_left(resident)
    another_recover_changes_nothing(resident)


def test_a_kernel_without_the_regions_driver_has_guests_wait_and_says_so(resident):
    """The region is set aside, but cannot be mounted: nothing is claimed, nothing is used."""
    host, _ = on_the_old_kernel(resident)
    line = host.sh("cat /proc/cmdline").strip()
    configure(host, *resident.kernels[resident.old], cmdline=f"{line} module_blacklist=nd_pmem")
    already = start(host)
    host.wait("host", "harness: failed", already)
    host.wait("host", "Debian GNU/Linux", already)
    host.sh("systemctl stop harness-complete")  # which tries the same
    said = host.sh(f"HARNESS_CONFIG={CONFIG} harness recover 2>&1; echo exit code $?")
    sys.stdout.write(said)
    assert not said.endswith("exit code 0\n"), said
    assert not [one for one in events(resident) if one["event"] == "consumed"]
    host.reboot()  # which loses it
    found = record(host)
    assert (found["outcome"], found["exit_code"]) == ("error", 3), found
    nothing_is_left(resident)


@contextmanager
def hooked(host: Machine, hook: str) -> Iterator[None]:
    """For a ``with``, libvirt asks that script about each guest that it starts."""
    host.sh(f"mkdir -p {HOOKS} && printf %s {shlex.quote(hook)} >{HOOKS}/qemu")
    host.sh(f"chmod 755 {HOOKS}/qemu && systemctl restart libvirtd")
    try:
        yield
    finally:
        host.sh(f"rm {HOOKS}/qemu && systemctl restart libvirtd")


def on_the_old_kernel(resident: Enrolled) -> tuple[Machine, dict[str, list[str]]]:
    """Have it run; the host, and what its guests tell of themselves."""
    resident.be_old()
    return resident.host, told(resident.host)


def each_was_thawed_once(resident: Enrolled) -> None:
    """Both of them, in whichever kernel, and nothing of the handover is left."""
    consumed = [one["guest"] for one in events(resident) if one["event"] == "consumed"]
    assert sorted(consumed) == list(GUESTS)
    nothing_is_left(resident)
    another_recover_changes_nothing(resident)


def guests_go_on_here(resident: Enrolled, found: dict[str, Any], before: object) -> None:
    """As they were, and the record says that the host was rolled back."""
    host = resident.host
    assert host.sh("uname -r").strip() == resident.old
    assert told(host) == before
    assert (found["outcome"], found["exit_code"]) == ("fail", 1), found
    for guest in found["guests"]:
        said = {one["name"]: one for one in guest["checks"]}
        assert said["host-kernel"]["outcome"] == "fail"
        assert "rolled back by reset" in json.dumps(said["host-kernel"])
        assert said["same-boot"]["outcome"] == "pass"
    each_was_thawed_once(resident)
