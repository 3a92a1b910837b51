"""The host's kernel is replaced under two guests whose RAM the kernels hand over: no region.

There, and back: the second time their RAM has no name from the start. The last test ends them.
"""

from __future__ import annotations

import shlex

from tests.live_kernel.aftermath import (
    another_recover_changes_nothing,
    events,
    kill_when_parked,
    nothing_is_left,
    undone_by_its_guardian,
)
from tests.live_kernel.enrolled import (
    GUESTS,
    configure,
    go_over,
    last,
    record,
    refused,
    start,
    told,
)
from tests.live_kernel.machine import Machine
from tests.live_kernel.preserving import SWITCHES, Preserving

SEEN = ("same-boot", "clock", "frozen", "host-kernel", "host-boot", "host-clock")
LUO = {"resident": "luo"}
#: Writes a kernel's file once more, with another word for sessions in it.
FORGE = """
import pathlib, sys, zlib
from harness.host.luo import abi
source, target = map(pathlib.Path, sys.argv[1:])
file, kernel = bytearray(source.read_bytes()), abi.unpacked(source)
assert kernel.count(b"luo-v5\\0") == 1
how = zlib.compressobj(9, wbits=31)
packed = how.compress(kernel.replace(b"luo-v5\\0", b"luo-v6\\0")) + how.flush()
start = ((file[0x1F1] or 4) + 1) * 512 + int.from_bytes(file[0x248:0x24C], "little")
file[0x24C:0x250] = len(packed).to_bytes(4, "little")
target.write_bytes(file[:start] + packed)
"""


def said_of(host: Machine, kernel: str, initrd: str, **more: str) -> str:
    """What a run says that is refused."""
    configure(host, kernel, initrd, **LUO, **more)
    return refused(host, *GUESTS)


def test_a_kernel_that_would_not_take_the_ram_is_refused(preserving):
    """Without the switches in its command line; Debian's own, which hands nothing over."""
    host = preserving.host
    _, kernel, initrd = preserving.other()
    line = host.sh("cat /proc/cmdline").strip()
    for switch in SWITCHES.split():
        said = said_of(host, kernel, initrd, cmdline=line.replace(switch, ""))
        assert f"its command line has no {switch}" in said
    debians = host.sh("ls /boot/vmlinuz-*-cloud-amd64").split()[0]
    release = debians.partition("vmlinuz-")[2]
    said = said_of(host, debians, f"/boot/initrd.img-{release}")
    assert f"{release} was built without CONFIG_LIVEUPDATE" in said
    assert "lz4, by which this kernel is packed, is not installed (fix: apt install lz4)" in said
    level, detail = host.doctor()["live update"]
    assert (level, "kho-v" in detail) == ("ok", True), detail


def test_a_kernel_that_takes_sessions_in_another_word_is_refused(preserving):
    """It differs from the other one in nothing else; it would panic."""
    host = preserving.host
    release, kernel, initrd = preserving.other()
    forged = f"/boot/vmlinuz-{release}-forged"
    python = "cd /opt/harness && .venv/bin/python -c"
    host.sh(f"{python} {shlex.quote(FORGE)} {kernel} {forged}")
    said = said_of(host, forged, initrd)
    assert f"{release} would panic, or lose the RAM: it takes memory over as kho-v4, luo-v6" in said
    host.sh(f"rm {forged}")


def test_a_run_that_is_killed_when_guests_are_parked_is_undone_by_its_guardian(preserving):
    """Its session ends with it; who holds the RAM in its place outlives it."""
    host, before = preserving.host, told(preserving.host)
    configure(host, *preserving.other()[1:], **LUO)
    kill_when_parked(host)
    undone_by_its_guardian(preserving, before)
    held_by_their_own_qemus(host)


def test_guests_go_on_under_another_kernel_and_back(preserving):
    """Same boot, same process, same blob; a verdict; no process is left that held their RAM."""
    host = preserving.host
    for _ in range(2):
        before = told(host)
        release, kernel, initrd = preserving.other()
        configure(host, kernel, initrd, **LUO)
        go_over(host, release, before, SEEN)
        held_by_their_own_qemus(host)
        preserving.expect_timers()


def test_what_a_reset_has_lost_is_told_and_nothing_is_claimed(preserving):
    """The next kernel panics, and the machine resets to the old one: sessions are kexec's."""
    host = on_the_first_kernel(preserving)
    # This kernel needs no initrd to have its root.
    line = f"{host.sh('cat /proc/cmdline').strip()} rdinit=/none root=/dev/none panic=1"
    release, kernel, initrd = preserving.other()
    configure(host, kernel, initrd, cmdline=line, **LUO)
    with host.kept_by_a_reset():
        already = start(host)
        host.wait("host", "Debian GNU/Linux", already)
        found = record(host)
    assert host.sh("uname -r").strip() != release
    assert (found["outcome"], found["exit_code"]) == ("error", 3), found  # none is paused
    assert "was not handed the session" in last(host, "journal.jsonl")
    assert not [one for one in events(preserving) if one["event"] == "consumed"]
    assert host.sh("virsh list --all --with-managed-save --name").split() == []
    assert host.sh("virsh list --name").split() == []
    nothing_is_left(preserving)
    another_recover_changes_nothing(preserving)


def held_by_their_own_qemus(host: Machine) -> None:
    """Guests' RAM: by no process that was started for that."""
    assert host.sh("pgrep -fx 'sleep infinity' || true").split() == []
    links = host.sh("readlink /var/lib/libvirt/qemu/ram/*-lab-*/*").split()
    pids = host.sh("grep -h . /run/libvirt/qemu/lab-*.pid").split()  # each without a newline
    assert sorted(link.split("/")[2] for link in links) == sorted(pids)


def on_the_first_kernel(preserving: Preserving) -> Machine:
    """Have it run, for a reset leads to it."""
    preserving.be_old()
    return preserving.host
