"""The host's kernel is replaced under two guests, by `harness run`: theirs is the RAM of before.

One host does it all, as each boot of it takes minutes: set up, rehearsed, 6.1 → 6.12, and back
with a page in the region that is not the run's.
"""

from __future__ import annotations

import json
import shlex
import subprocess
from pathlib import Path

from benchmarks.kernel.__main__ import payload, script
from harness.core.paths import cache_dir
from tests.live_kernel.machine import Machine
from tests.residents import PLANT, TELL

STATE = "/root/.local/state/harness"
CONFIG = f"{STATE}/lab/live.toml"
GUESTS = ("lab-1", "lab-2")
#: Other work on this machine is in the pause.
BUDGET_S, EXPECTED_S = 900, 400
#: What the guests' network takes of a kernel, beside the guests.
PARTS = ("kernel/net", "kernel/lib", "kernel/crypto", "kernel/arch")
#: What a run cannot see of guests that its connections do not outlive.
UNSEEN = {
    *("downtime", "canary", "processes", "connections"),
    *("mounts", "tcp-session", "disk", "timers"),
}


def harness(host: Machine, *words: str) -> str:
    return host.sh(f"HARNESS_CONFIG={CONFIG} {shlex.join(['harness', *words])}")


def told(host: Machine) -> dict[str, list[str]]:
    """Of each guest: boot id, nonce of a process, and whether a blob is as it was."""
    found = {}
    for name in GUESTS:
        boot, canary, blob = harness(host, "lab", "ssh", name, TELL).splitlines()
        found[name] = [boot, canary.split()[0], blob]
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


def configure(host: Machine, kernel: str, initrd: str, **more: str) -> None:
    said = {"kind": "kernel", "kernel": kernel, "initrd": initrd, "expected_s": EXPECTED_S, **more}
    lines = "".join(f"{key} = {json.dumps(value)}\n" for key, value in said.items())
    host.sh(f"printf '\\n[update]\\n%s' {shlex.quote(lines)} >{CONFIG}.update")
    host.sh(f"sed -i '/^\\[update\\]/,$d' {CONFIG} && cat {CONFIG}.update >>{CONFIG}")


def start(host: Machine) -> int:
    """Begin a run and leave it; returns how much the console had said by then."""
    already = len(host.lines["host"])
    words = shlex.join(["harness", "run", *GUESTS, "--budget", str(BUDGET_S), "--json"])
    host.sh(f"HARNESS_CONFIG={CONFIG} setsid {words} >/root/run.log 2>&1 </dev/null & true")
    return already


def refused(host: Machine, *guests: str) -> str:
    """What a run says that ends before it has begun; nobody is paused."""
    words = shlex.join(["harness", "run", *guests, "--budget", str(BUDGET_S)])
    said = host.sh(f"HARNESS_CONFIG={CONFIG} {words} 2>&1; echo exit code $?")
    assert said.endswith("exit code 2\n"), said
    assert sorted(host.sh("virsh list --state-running --name").split()) == list(GUESTS)
    return said


def it_is_refused(host: Machine, kernel: str, initrd: str) -> None:
    """A kernel that would take guests' RAM for its own; one that would end a guest."""
    line = [one for one in host.sh("cat /proc/cmdline").split() if not one.startswith("memmap=")]
    configure(host, kernel, initrd, cmdline=" ".join(line))
    assert "does not set aside 1024 MiB at 0x140000000" in refused(host, *GUESTS)
    configure(host, kernel, initrd)
    assert "lab-2 is not in the run" in refused(host, "lab-1")


def record(host: Machine) -> dict:
    """The record of the last run, once the unit of the new system has finished it."""
    wait = "until systemctl is-system-running | grep -qE 'running|degraded'; do sleep 1; done"
    host.sh(f"{wait}; while [ -e /var/lib/harness/handover ]; do sleep 1; done")
    return json.loads(host.sh(f"cat $(ls -d {STATE}/runs/*/ | tail -n 1)run.json"))


def test_guests_go_on_under_another_kernel_and_a_foreign_page_is_not_believed(host, tmp_path):
    """6.1 → 6.12: same guests, clocks right, a verdict; then a kernel that finds another page."""
    folder = tmp_path / "kernel"
    folder.mkdir()
    host.harness("setup-host", "--resident", "1G", "--region")
    host.reboot()
    host.rehearse()
    old, new = host.sh("uname -r").strip(), bring_kernel(host, folder)
    host.sh("systemctl start libvirtd")
    host.sh("cd /opt/harness && .venv/bin/python -m tests.live_kernel.inside")
    for name in GUESTS:
        harness(host, "lab", "ssh", name, PLANT.format(nap_s=0.5))
    before = told(host)

    it_is_refused(host, f"/boot/vmlinuz-{new}", "/kernel/initrd")
    configure(host, f"/boot/vmlinuz-{new}", "/kernel/initrd")
    already = start(host)
    host.wait("host", "harness: init", already)
    host.wait("host", "harness: (lab-. is not back|lab-. runs|failed|no guest)", already)
    found = record(host)
    assert host.sh("uname -r").strip() == new
    assert told(host) == before
    assert (found["outcome"], found["exit_code"], found["problems"]) == ("pass", 0, []), found
    for guest in found["guests"]:
        verdicts = {one["name"]: one["outcome"] for one in guest["checks"]}
        assert {verdicts[one] for one in ("same-boot", "clock", "lag", "frozen")} == {"pass"}
        assert {verdicts[one] for one in UNSEEN & verdicts.keys()} == {"skip"}
        assert abs(guest["clock"]["after_correction"]["offset_s"]) <= 0.05
    assert "no dead runs" in harness(host, "recover")

    # Back: a page that is not the run's is as a kernel that has used the memory for itself.
    configure(host, f"/boot/vmlinuz-{old}", f"/boot/initrd.img-{old}")
    page = "/var/lib/libvirt/qemu/ram/harness-handover"
    host.sh(
        f"(until [ -e /var/lib/harness/handover ] && [ -e {page} ]; do sleep 0.1; done; sleep 1;"
        f" printf x >>{page}) >/dev/null 2>&1 </dev/null & true"
    )
    already = start(host)
    host.wait("host", "harness: no guest is brought back", already)
    found = record(host)
    assert host.sh("uname -r").strip() == old
    assert found["outcome"] != "pass"
    assert host.sh("virsh list --name").split() == []
    assert "another kernel used this memory" in host.sh(
        f"cat $(ls -d {STATE}/runs/*/ | tail -n 1)journal.jsonl"
    )
