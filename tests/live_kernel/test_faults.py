"""What goes wrong while the host's kernel is replaced: by faults, in an emulated host."""

from __future__ import annotations

import json
import shlex
from typing import Any

from tests.live_kernel.enrolled import (
    BUDGET_S,
    CONFIG,
    GUESTS,
    STATE,
    Enrolled,
    configure,
    harness,
    last,
    record,
    start,
    told,
)
from tests.live_kernel.machine import Machine

#: The kernel refuses the call as it would for a program without the right to it.
REFUSED = (
    "systemd-run --quiet --wait --collect --pipe -p SystemCallFilter=~reboot"
    f" -p SystemCallErrorNumber=EPERM --setenv=HARNESS_CONFIG={CONFIG} --setenv=HOME=/root"
)
#: Kills the run of a journal that is still to begin, as soon as a guest is parked.
KILL = """
import json, os, pathlib, signal, sys, time
runs, known = pathlib.Path(sys.argv[1]), sys.argv[2:]
while True:
    for file in runs.glob("*/journal.jsonl"):
        if file.parent.name in known:
            continue
        for line in file.read_text().splitlines():
            if '"event": "parked"' in line:
                os.kill(json.loads(line)["pid"], signal.SIGKILL)
                sys.exit()
    time.sleep(0.02)
"""


def events(resident: Enrolled) -> list[dict[str, str]]:
    """The journal of the last run."""
    return [json.loads(line) for line in last(resident.host, "journal.jsonl").splitlines()]


def nothing_is_left(resident: Enrolled) -> None:
    """Of the handover: no kernel is loaded, and the next boot is like any other."""
    host = resident.host
    assert host.sh("cat /sys/kernel/kexec_loaded").strip() == "0"
    assert host.sh("ls -A /var/lib/harness/thaw /etc/systemd/system").find("harness-complete") < 0
    assert host.sh("test -e /var/lib/harness/handover || echo gone").strip() == "gone"
    mounts = host.sh("findmnt --noheadings --output OPTIONS / /var/lib/libvirt/qemu/ram; true")
    assert all(one.startswith("rw") for one in mounts.split())


def another_recover_changes_nothing(resident: Enrolled) -> None:
    """Whoever is in doubt runs it once more."""
    before = [last(resident.host, name) for name in ("journal.jsonl", "run.json")]
    assert "no dead runs" in harness(resident.host, "recover")
    assert [last(resident.host, name) for name in ("journal.jsonl", "run.json")] == before


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
    known = host.sh(f"ls {STATE}/runs 2>/dev/null || true").split()
    start(host)
    host.sh(shlex.join(["python3", "-c", KILL, f"{STATE}/runs", *known]))
    host.sh(
        f'until [ $(grep -c \'"event": "resumed"\' $(ls -d {STATE}/runs/*/ | tail -n 1)'
        "journal.jsonl) -ge 2 ]; do sleep 0.2; done"
    )
    back = [one for one in events(resident) if one["event"] == "resumed"]
    assert sorted((one["guest"], one["by"]) for one in back) == [
        (name, "guardian") for name in GUESTS
    ]
    assert told(host) == before
    harness(host, "recover")
    nothing_is_left(resident)
    another_recover_changes_nothing(resident)


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


def on_the_old_kernel(resident: Enrolled) -> tuple[Machine, dict[str, list[str]]]:
    """Have it run, for a reset leads to it; the host, and what its guests tell of themselves."""
    host = resident.host
    if host.sh("uname -r").strip() != resident.old:
        host.reboot()
        resident.have_guests()
    return host, told(host)


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
    consumed = [one["guest"] for one in events(resident) if one["event"] == "consumed"]
    assert sorted(consumed) == list(GUESTS)
    nothing_is_left(resident)
    another_recover_changes_nothing(resident)
