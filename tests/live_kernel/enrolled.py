"""An emulated host whose kernel may be replaced: two guests, two kernels, and runs of harness."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.kernel.__main__ import payload, script
from harness.core.paths import cache_dir
from tests.live_kernel import disks
from tests.live_kernel.machine import Machine
from tests.live_kernel.terms import table
from tests.live_kernel.way import Way
from tests.residents import PLANT, TELL

STATE = "/root/.local/state/harness"
CONFIG = f"{STATE}/lab/live.toml"
GUESTS = ("lab-1", "lab-2")
#: Other work on this machine is in the pause.
BUDGET_S, EXPECTED_S = 900, 400
ENDED = "the run has ended here"
#: What the guests' network takes of a kernel, beside the guests; and what resets the host.
PARTS = ("kernel/net", "kernel/lib", "kernel/crypto", "kernel/arch", "kernel/drivers/watchdog")


@dataclass(frozen=True)
class Enrolled:
    """The host, and the releases of its own kernel and of another one that it may go on in."""

    host: Machine
    old: str
    new: str
    way: Way | None = None
    """From this machine to the host and its guests, where there is one."""

    @property
    def kernels(self) -> dict[str, tuple[str, str]]:
        """Kernel and initrd, by release."""
        return {
            self.old: (f"/boot/vmlinuz-{self.old}", f"/boot/initrd.img-{self.old}"),
            self.new: (f"/boot/vmlinuz-{self.new}", "/kernel/initrd"),
        }

    def other(self) -> tuple[str, str, str]:
        """Release, kernel and initrd of the one that does not run."""
        running = self.host.sh("uname -r").strip()
        release = self.new if running == self.old else self.old
        return (release, *self.kernels[release])

    def have_guests(self) -> None:
        """Both run; those that are there are left as they are.

        New ones are started under the old kernel: what its vhost offers, the other one's has, too.
        """
        self.host.sh("systemctl start libvirtd")
        running = self.host.sh("virsh list --state-running --name").split()
        if sorted(running) == list(GUESTS):
            return
        self.run_old()
        self.boot_guests()

    def boot_guests(self, count: int = len(GUESTS), *memory_mib: int) -> tuple[str, ...]:
        """New ones in the place of those that are there; their names."""
        words = shlex.join(map(str, (count, *memory_mib)))
        self.host.sh("harness lab down >/dev/null 2>&1 || true")
        self.host.sh(f"cd /opt/harness && .venv/bin/python -m tests.live_kernel.inside {words}")
        names = tuple(self.host.sh("virsh list --state-running --name").split())
        nap_s = count / 4  # for all together the host has one CPU
        begin = f"{PLANT.format(nap_s=nap_s)}\n{disks.COUNT.format(nap_s=nap_s)}"
        for name in names:
            harness(self.host, "lab", "ssh", name, begin)
        return names

    def be_old(self) -> None:
        """The old kernel runs, to which a reset leads; with guests that were started under it."""
        self.run_old()
        self.have_guests()

    def run_old(self) -> None:
        """The same, with whatever guests there are: none, if another kernel ran."""
        if self.host.sh("uname -r").strip() != self.old:
            self.host.reboot()


def harness(host: Machine, *words: str) -> str:
    """What harness said there, with the guests' configuration."""
    return host.sh(f"HARNESS_CONFIG={CONFIG} {shlex.join(['harness', *words])}")


def told(host: Machine, guests: Sequence[str] = GUESTS) -> dict[str, list[str]]:
    """Of each guest: boot id, nonce of a process, whether a blob and a disk are as they should."""
    found = {}
    for name in guests:
        before = disks.counted(host, name)
        said = harness(host, "lab", "ssh", name, f"{TELL}; {disks.COUNTED}")
        boot, canary, blob, in_ram = said.splitlines()
        disk = disks.judged(before, int(in_ram), disks.counted(host, name))
        found[name] = [boot, canary.split()[0], blob, disk]
    return found


def bring_kernel(host: Machine, folder: Path) -> str:
    """Install another kernel in the host; its release."""
    tree = script("backports", str(cache_dir() / "second-kernel"), "linux-image-cloud-amd64")
    (image,) = tree.glob("boot/vmlinuz-*")
    release = image.name.removeprefix("vmlinuz-")
    assert host.image.initrd is not None
    root = payload(folder, host.image.initrd, tree, release)
    words = ["tar", "-C", str(root), "-cf", "-", "."]
    packed = subprocess.run(words, check=True, capture_output=True).stdout
    host.sh("tar -C / --keep-directory-symlink --no-overwrite-dir -xf -", packed)
    home = tree / "lib/modules" / release
    words = ["tar", "-C", str(home), "-cf", "-", *(one for one in PARTS if (home / one).is_dir())]
    packed = subprocess.run(words, check=True, capture_output=True).stdout
    host.sh(f"tar -C /usr/lib/modules/{release} -xf - && depmod {release}", packed)
    return release


def configure(host: Machine, kernel: str, initrd: str, **more: str | int) -> None:
    """Have the next run replace the kernel by that one."""
    said = {"kind": "kernel", "kernel": kernel, "initrd": initrd, "expected_s": EXPECTED_S, **more}
    lines = "".join(f"{key} = {json.dumps(value)}\n" for key, value in said.items())
    host.sh(f"printf '\\n[update]\\n%s' {shlex.quote(lines)} >{CONFIG}.update")
    host.sh(f"sed -i '/^\\[update\\]/,$d' {CONFIG} && cat {CONFIG}.update >>{CONFIG}")


def start(host: Machine, *more: str, guests: Collection[str] = GUESTS) -> int:
    """Begin a run and leave it; returns how much the console had said by then.

    One that ends under the kernel it was begun under says so there.
    """
    already = len(host.lines["host"])
    words = shlex.join(["harness", "run", *guests, "--budget", str(BUDGET_S), "--json", *more])
    run = f"{words} >/root/run.log 2>&1; echo {ENDED} >/dev/console"
    host.sh(f"HARNESS_CONFIG={CONFIG} setsid sh -c {shlex.quote(run)} >/dev/null 2>&1 </dev/null &")
    return already


def refused(host: Machine, *guests: str) -> str:
    """What a run says that ends before it has begun; nobody is paused."""
    words = shlex.join(["harness", "run", *guests, "--budget", str(BUDGET_S)])
    said = host.sh(f"HARNESS_CONFIG={CONFIG} {words} 2>&1; echo exit code $?")
    assert said.endswith("exit code 2\n"), said
    assert sorted(host.sh("virsh list --state-running --name").split()) == list(GUESTS)
    return said


def go_over(
    host: Machine, release: str, before: dict[str, list[str]], seen: Collection[str], *more: str
) -> dict[str, Any]:
    """Have the guests go on under that kernel; the record, which is a PASS.

    ``before``: what was ``told`` of them all, and still is; ``seen``: the checks that have passed;
    ``more``: options of the run.
    """
    already = start(host, *more, guests=before)
    said = host.wait("host", f"harness: init|{ENDED}", already).text
    assert ENDED not in said, host.sh("tail -n 20 /root/run.log")
    host.wait("host", "harness: (lab-. is not back|lab-. runs|failed|no guest)", already)
    found = record(host)
    journal = [json.loads(line) for line in last(host, "journal.jsonl").splitlines()]
    sys.stdout.write(f"{table(journal, host.lines['host'][already:])}\n")
    assert host.sh("uname -r").strip() == release
    assert told(host, tuple(before)) == before
    assert (found["outcome"], found["exit_code"], found["problems"]) == ("pass", 0, []), found
    for guest in found["guests"]:
        verdicts = {one["name"]: one["outcome"] for one in guest["checks"]}
        assert {verdicts[one] for one in seen} == {"pass"}
    return found


def record(host: Machine) -> dict[str, Any]:
    """The record of the last run, once the unit of the new system has finished it."""
    wait = "until systemctl is-system-running | grep -qE 'running|degraded'; do sleep 1; done"
    host.sh(f"{wait}; while [ -e /var/lib/harness/handover ]; do sleep 1; done")
    busy = "systemctl show -P ActiveState harness-complete | grep -q ^activating"
    host.sh(f"while {busy}; do sleep 1; done")  # the page and the history come last
    found: dict[str, Any] = json.loads(last(host, "run.json"))
    return found


def last(host: Machine, file: str) -> str:
    """A file of the folder of the last run."""
    return host.sh(f"cat $(ls -d {STATE}/runs/*/ | tail -n 1){file}")
