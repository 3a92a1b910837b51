"""QEMU upgraded by apt and replaced under KVM guests that AppArmor confines, and back.

Debian 12 as it is packed: systemd, libvirt 9.0, AppArmor's profiles enforced; QEMU 7.2 and that of
the backports, from a repository in the box that vm-images/labbox/newer-qemu has made. One guest is
transient, so it is parked as a plain save, the other persistent: a managed save.

libvirt loads a guest's profile some seven times at each start, and each time takes an emulated box
seconds. So each guest is an update domain of its own, and a start may take long.

Requires: the lab box. Leaves behind: nothing; guests of other tests are neither asked nor changed.
"""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass
from typing import Any

import pytest

from tests.kvm.conftest import Box, Ended, passed
from tests.residents import PLANT, TELL

pytestmark = [pytest.mark.apparmor, pytest.mark.timeout(1800)]

#: Of a lab of its own, beside that of other tests.
STATE = "/root/.local/state/harness-confined"
CONFIG = f"{STATE}/lab/confined.toml"
TRANSIENT, PERSISTENT = GUESTS = ("lab-1", "lab-2")
REPOSITORY = "/srv/qemu"
OLD_TREE, NEW_TREE = "/srv/qemu-7.2", "/srv/qemu-10.0"
OLD, NEW = "7.2.", "10.0."
SIZE = "1G"
APPARMOR = "/etc/apparmor.d"
HELPER, DAEMON = "usr.lib.libvirt.virt-aa-helper", "usr.sbin.libvirtd"
EXPECTED_S, BUDGET_S = 120, 300
#: What Debian 12's libvirt allows no QEMU 10, however it was started; that goes on without.
OF_ANY_QEMU_10 = ('name="/proc/sys/vm/max_map_count"',)
#: More samples find a quick round trip; a call of libvirt takes tenths of a second here.
CLOCK = "[clock]\nsamples = 40\nlag_tolerance_s = 2.0\n"
#: Of each guest that is named: its process, what confines that, its RAM, its version.
LOOK = r"""
for name in "$@"; do
    pid=$(cat "/run/libvirt/qemu/$name.pid")
    ram=$(awk '/\/pc.ram/ { print $4 ":" $5; exit }' "/proc/$pid/maps")
    version=$(virsh qemu-monitor-command "$name" --hmp "info version" | head -n 1)
    echo "$pid|$(cat "/proc/$pid/attr/current")|$ram|$version"
done
"""
#: What the set-up of a host may have touched, and what guests may have left.
TRACES = """
cd /etc && find apparmor.d systemd/system fstab -type f ! -path 'apparmor.d/libvirt/libvirt-*' \
    -exec sha256sum {} + | sort -k 2
find /etc/systemd/system -type l | sort
find /run/harness/parked /run/harness/qemu /var/lib/libvirt/qemu/ram -mindepth 1 2>/dev/null
findmnt --noheadings --output TARGET,FSTYPE | grep /var/lib/libvirt
true
"""
#: By apt, from the files of the repository.
DOWNGRADE = f"""cd {REPOSITORY}
DEBIAN_FRONTEND=noninteractive apt-get -qq --yes --allow-downgrades install \
    ./*7.2+dfsg*.deb ./seabios_1.16.2-*.deb >/dev/null"""


@dataclass(frozen=True)
class Look:
    """The QEMU of a guest."""

    pid: str
    label: str
    ram: str
    version: str


def shell(box: Box, command: str, timeout_s: float = 300) -> str:
    ended = box.sh(command, timeout_s)
    assert ended.code == 0, f"{command}: {ended.out}{ended.err}"
    return ended.out


def harness(box: Box, *words: str) -> Ended:
    return box.sh(f"HARNESS_STATE_DIR={STATE} {shlex.join(['harness', *words])}", 800)


def done(box: Box, *words: str) -> str:
    ended = harness(box, *words)
    assert ended.code == 0, ended.out + ended.err
    return ended.out


def run(box: Box, *guests: str, **update: Any) -> Ended:
    """A whole maintenance of these guests."""
    said = "".join(f"{key} = {json.dumps(value)}\n" for key, value in update.items())
    text = shlex.quote(f"\n[update]\n{said}")
    shell(box, f"(cat {CONFIG}; printf %s {text}) >{CONFIG}.now")
    words = ("--config", f"{CONFIG}.now", "--budget", str(BUDGET_S), "--json", "--no-report")
    return harness(box, "run", *guests, *words)


def replaced(box: Box, previous: str) -> dict:
    """Both guests go on in the QEMU that is installed; the record."""
    return passed(run(box, *GUESTS, kind="qemu", previous=previous, expected_s=EXPECTED_S))


def looks(box: Box) -> dict[str, Look]:
    lines = shell(box, shlex.join(["sh", "-c", LOOK, "look", *GUESTS])).splitlines()
    return {name: Look(*line.split("|")) for name, line in zip(GUESTS, lines, strict=True)}


def memory(box: Box) -> dict[str, tuple[str, str, str]]:
    """Of each guest: boot id, nonce of a process, and whether a blob is as it was."""

    def told(name: str) -> tuple[str, str, str]:
        boot, canary, blob = done(box, "lab", "ssh", name, TELL).splitlines()
        return boot, canary.split()[0], blob

    return {name: told(name) for name in GUESTS}


def now(box: Box) -> str:
    return shell(box, "date +%s").strip()


def denials(box: Box, since: str) -> list[str]:
    """What AppArmor has refused anybody since then, by the journal (audit and kernel)."""
    words = f"journalctl --quiet --no-pager --output=cat --since=@{since}"
    lines = box.sh(f"{words} | grep apparmor=.DENIED").out.splitlines()
    return [line for line in lines if not any(name in line for name in OF_ANY_QEMU_10)]


def confined(box: Box) -> None:
    """AppArmor enforced, the host set up, two guests in the old QEMU; not if it is so already."""
    if box.sh(f"test -e {CONFIG} && virsh domstate {PERSISTENT} | grep -q running").code == 0:
        return
    shell(box, "systemctl start apparmor.service && systemctl restart libvirtd.service")
    shell(box, f"mkdir -p {STATE} && ({TRACES}) >{STATE}/traces")
    done(box, "setup-host", "--resident", SIZE)
    words = ("-n", "2", "--image", "tiny", "--resident", "--accelerator", "kvm")
    done(box, "lab", "up", *words, "--timeout", "600s")
    shell(box, f"virsh dumpxml --inactive {PERSISTENT} >/tmp/{PERSISTENT}.xml")
    shell(box, f"virsh define /tmp/{PERSISTENT}.xml")
    for name in GUESTS:
        done(box, "lab", "ssh", name, PLANT.format(nap_s=2))
    shell(box, f"(cat {STATE}/lab/harness.toml; printf %s {shlex.quote(CLOCK)}) >{CONFIG}")
    done(box, "clock", "correct", *GUESTS, "--allow-backward", "--config", CONFIG)


def in_another_process(before: dict[str, Look], after: dict[str, Look], version: str) -> None:
    """The same RAM files, the guest's own profile enforced, another QEMU."""
    for name in GUESTS:
        assert after[name].pid != before[name].pid
        assert after[name].version.startswith(version)
        assert after[name].ram == before[name].ram
        assert after[name].label == before[name].label
        assert after[name].label.endswith(" (enforce)")


def expect_kept(record: dict) -> None:
    """What kind qemu promises, in the record."""
    for guest in record["guests"]:
        found = {check["name"]: check["outcome"] for check in guest["checks"]}
        for name in ("same-boot", "same-process", "qemu-version", "ram-inode", "canary"):
            assert found[name] == "pass", guest["checks"]


def test_confined_guests_go_on_in_the_qemu_that_apt_has_brought(box):
    """First they stay in the old one, then they are in the new one; nothing was denied anybody."""
    confined(box)
    since, first, kept = now(box), looks(box), memory(box)
    assert {look.version[:4] for look in first.values()} == {OLD}

    record = passed(
        run(box, TRANSIENT, kind="packages", repository=REPOSITORY, packages=["qemu-system-x86"])
    )
    assert "qemu-system-x86 1:7.2" in record["update_domains"][0]["update_detail"]
    assert "QEMU emulator version 10.0." in shell(box, "qemu-system-x86_64 --version")
    assert looks(box) == first

    expect_kept(replaced(box, OLD_TREE))
    in_another_process(first, looks(box), NEW)
    assert memory(box) == kept
    assert {blob for _, _, blob in kept.values()} == {"/blob: OK"}
    assert denials(box, since) == []
    profiles = shell(box, "cat /etc/apparmor.d/libvirt/libvirt-*")
    assert "harness: begin" not in profiles  # its rules go when the guest runs


def test_and_back_in_the_old_one_after_a_downgrade_by_apt(box):
    """apt puts the old version back, and the guests follow."""
    confined(box)
    since, second, kept = now(box), looks(box), memory(box)
    shell(box, DOWNGRADE)
    assert "QEMU emulator version 7.2." in shell(box, "qemu-system-x86_64 --version")
    expect_kept(replaced(box, NEW_TREE))
    in_another_process(second, looks(box), OLD)
    assert memory(box) == kept
    assert denials(box, since) == []


def test_where_the_rules_of_the_set_up_are_not_written_nobody_is_paused(box):
    """It is refused, with the command that writes them."""
    confined(box)
    first = looks(box)
    shell(box, f"sed -i '/setup-host: begin/,/setup-host: end/d' {APPARMOR}/local/{HELPER}")
    ended = run(box, TRANSIENT, kind="qemu", again=True)
    assert ended.code == 2, ended.out + ended.err
    assert f"{HELPER} has not the rules of harness" in ended.err
    assert "fix: harness setup-host --resident" in ended.err
    assert looks(box) == first
    done(box, "setup-host", "--resident", SIZE)


def test_where_the_kernel_does_not_know_the_rules_no_qemu_of_a_folder_is_started(box):
    """libvirt cannot look at it, so nobody is paused. What was denied is seen, as nothing was
    above; once the rules are loaded the guest goes on in it."""
    confined(box)
    since, first, kept = now(box), looks(box), memory(box)
    shell(box, f"grep -v '<local/' {APPARMOR}/{DAEMON} >/tmp/daemon")
    shell(box, "apparmor_parser --replace /tmp/daemon")
    # libvirt looks again at a program that has changed.
    shell(box, "touch /var/lib/libvirt/harness/emulators/*/*")
    settings: dict[str, Any] = {"tree": NEW_TREE, "expected_s": EXPECTED_S}
    try:
        ended = run(box, TRANSIENT, kind="qemu", **settings)
        assert ended.code == 3, ended.out + ended.err
    finally:
        shell(box, f"apparmor_parser --replace {APPARMOR}/{DAEMON}")
    denied = denials(box, since)
    assert denied
    assert all("/var/lib/libvirt/harness/emulators/" in line for line in denied), denied
    assert looks(box) == first
    expect_kept(passed(run(box, TRANSIENT, kind="qemu", **settings)))
    assert looks(box)[TRANSIENT].version.startswith(NEW)
    assert memory(box) == kept


def test_a_host_that_is_set_up_no_more_keeps_no_trace_of_it(box):
    """Once no guest has RAM there; every file, link and mount is as it was before."""
    confined(box)
    refused = harness(box, "setup-host", "--undo")
    assert refused.code == 2
    assert "holds the RAM of guests" in refused.err
    done(box, "lab", "down")
    shell(box, f"virsh undefine {PERSISTENT}")
    done(box, "setup-host", "--undo")
    try:
        assert shell(box, TRACES) == shell(box, f"cat {STATE}/traces")
    finally:
        shell(box, f"{DOWNGRADE}; aa-teardown && systemctl restart libvirtd.service")
