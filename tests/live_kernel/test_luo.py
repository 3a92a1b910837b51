"""The host's kernel is replaced under two guests whose RAM the kernels hand over: no region.

There, and back: the second time their RAM has no name from the start.
"""

from __future__ import annotations

from tests.live_kernel.enrolled import (
    GUESTS,
    configure,
    go_over,
    refused,
    told,
)
from tests.live_kernel.machine import Machine
from tests.live_kernel.preserving import SWITCHES

SEEN = ("same-boot", "clock", "frozen", "host-kernel", "host-boot", "host-clock")
LUO = {"resident": "luo"}


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
    assert f"{release} would panic" in said
    level, detail = host.doctor()["live update"]
    assert (level, "kho-v" in detail) == ("ok", True), detail


def test_guests_go_on_under_another_kernel_and_back(preserving):
    """Same boot, same process, same blob; a verdict; no process is left that held their RAM."""
    host = preserving.host
    for _ in range(2):
        before = told(host)
        release, kernel, initrd = preserving.other()
        configure(host, kernel, initrd, **LUO)
        go_over(host, release, before, SEEN)
        assert host.sh("pgrep -fx 'sleep infinity' || true").split() == []
        links = host.sh("readlink /var/lib/libvirt/qemu/ram/*-lab-*/*").split()
        pids = host.sh("cat /run/libvirt/qemu/lab-*.pid").split()
        assert sorted(link.split("/")[2] for link in links) == sorted(pids)
