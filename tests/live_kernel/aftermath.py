"""What is looked at when a handover has gone wrong; and the run that is killed for it."""

from __future__ import annotations

import json
import shlex

from tests.live_kernel.enrolled import GUESTS, STATE, Enrolled, harness, last, start, told
from tests.live_kernel.machine import Machine

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


def kill_when_parked(host: Machine) -> None:
    """Begin a run, kill it as soon as a guest is parked, and wait until both are resumed."""
    known = host.sh(f"ls {STATE}/runs 2>/dev/null || true").split()
    start(host)
    # A run that was refused parks none.
    host.sh(shlex.join(["timeout", "600", "python3", "-c", KILL, f"{STATE}/runs", *known]))
    host.sh(
        f'until [ $(grep -c \'"event": "resumed"\' $(ls -d {STATE}/runs/*/ | tail -n 1)'
        "journal.jsonl) -ge 2 ]; do sleep 0.2; done"
    )


def undone_by_its_guardian(resident: Enrolled, before: dict[str, list[str]]) -> None:
    """Guests go on in place, as they were (``told``), and `recover` leaves nothing behind."""
    back = [one for one in events(resident) if one["event"] == "resumed"]
    assert sorted((one["guest"], one["by"]) for one in back) == [
        (name, "guardian") for name in GUESTS
    ]
    assert told(resident.host) == before
    harness(resident.host, "recover")
    nothing_is_left(resident)
    another_recover_changes_nothing(resident)
