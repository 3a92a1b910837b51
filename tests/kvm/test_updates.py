"""Real updates of a real host: each kind applied under a paused KVM guest, verified, rolled back.

Requires: the lab box with guest kvm-1. Leaves behind: guests that run, with right clocks; in the
box, packages of ours, vm.swappiness and the module dummy.
"""

from __future__ import annotations

import json
import shlex

import pytest

from tests.kvm.conftest import CONFIG, passed
from tests.kvm.test_maintenance import kept

FOLDER = "/root/.local/state/harness/lab"
REPOSITORY = "/srv/harness-debs"
#: The package of the daemon as Debian made it; vm-images/labbox/build has put it there.
DEBIANS = "/srv/libvirt"
#: What is said of libvirtd's service in here comes before what its package says.
BROKEN = "/etc/systemd/system/libvirtd.service.d"
SOURCE = f'repository = "{REPOSITORY}"\n'
#: Packages without content, but for a kernel in version 5. Version 3 of each cannot be configured,
#: version 4 asks for a reboot, with version 6 libvirtd does not start any more, with version 7 it
#: never gets ready. Then the repository's index.
DEBS = f"""
set -e
rm -rf {REPOSITORY} /run/reboot-required; mkdir -p {REPOSITORY}; cd {REPOSITORY}
for package in "$@"; do
    name=${{package%=*}} version=${{package#*=}}
    mkdir -p tree/DEBIAN
    {{ echo "Package: $name"; echo "Version: $version"; echo "Architecture: all"
       echo "Maintainer: harness <h@example.org>"; echo "Description: for tests"
    }} >tree/DEBIAN/control
    case $version in
    3) printf '#!/bin/sh\\nexit 1\\n' >tree/DEBIAN/postinst;;
    4) printf '#!/bin/sh\\ntouch /run/reboot-required\\n' >tree/DEBIAN/postinst;;
    5) mkdir tree/boot; touch tree/boot/vmlinuz-harness;;
    6) daemon=/bin/false;;
    7) daemon="/bin/sleep infinity";;
    esac
    case $version in
    6|7) mkdir -p tree{BROKEN}
         printf '[Service]\\nExecStart=\\nExecStart=%s\\n' "$daemon" >tree{BROKEN}/harness.conf;;
    esac
    case $version in
    1|6|7) printf '#!/bin/sh\\nsystemctl daemon-reload\\n' >tree/DEBIAN/postinst;;
    esac
    [ ! -e tree/DEBIAN/postinst ] || chmod 755 tree/DEBIAN/postinst
    deb=${{name}}_${{version}}_all.deb
    dpkg-deb --root-owner-group --build tree "$deb" >/dev/null
    {{ dpkg-deb --field "$deb"; echo "Filename: ./$deb"; echo "Size: $(stat -c %s "$deb")"
       echo "SHA256: $(sha256sum "$deb" | cut -d' ' -f1)"; echo; }} >>Packages
    rm -r tree
done
"""


def with_packages(box, *packages: str) -> None:
    """A local repository in the box, of these; version 1 of each installed, of a kernel none."""
    words = shlex.join(["bash", "-c", DEBS, "debs", *packages])
    made = box.sh(
        f"{words} && cd {REPOSITORY} && dpkg --install *_1_all.deb && "
        "dpkg --purge linux-image-harness"
    )
    assert made.code == 0, made.err


def configured(box, name: str, kind: str, settings: str) -> str:
    """A configuration file in the box, for the guests that are up."""
    file = f"{FOLDER}/{name}.toml"
    text = f'\n[update]\nkind = "{kind}"\n{settings}\n'
    ended = box.sh(f"(cat {CONFIG}; printf %s {shlex.quote(text)}) >{file}")
    assert ended.code == 0
    return file


def maintained(box, kind: str, settings: str) -> dict:
    """A whole maintenance of kvm-1 with this update; its record."""
    file = configured(box, kind, kind, settings)
    # The guest of the first test was booted just before: no process of it is a minute old.
    young = "HARNESS_CHECKS_LONG_RUNNING_S=5s"
    record = passed(box.sh(f"{young} harness run kvm-1 --config {file} --json --no-report"))
    (guest,) = record["guests"]
    # A libvirtd that is started anew may have sent events that were not heard.
    kept(guest, *(["libvirt-events"] if kind == "libvirt" else []))
    assert record["update"]["kind"] == kind
    return record["update_domains"][0]


def rehearsed(box, kind: str, *settings: str) -> list[str]:
    """Updates one after another without a guest; what became of each."""
    files = [configured(box, f"{kind}-{n}", kind, text) for n, text in enumerate(settings)]
    words = shlex.join([".venv/bin/python", "-m", "tests.kvm.rehearse", *files])
    ended = box.sh(f"cd /opt/harness && {words}")
    assert ended.code == 0, ended.err
    return json.loads(ended.out)


def version(box, package: str) -> str:
    return box.sh(f"dpkg-query --show --showformat='${{Version}}' {package}").out


def test_sysctl(guest):
    """Set under a paused guest; a value that the kernel refuses brings the old ones back."""
    guest.sh("sysctl --quiet --write vm.swappiness=60")
    domain = maintained(guest, "sysctl", 'sysctl = ["vm.swappiness=10"]')
    assert domain["update_detail"] == "vm.swappiness 60 → 10"
    assert guest.sh("cat /proc/sys/vm/swappiness").out == "10\n"
    undone, unknown = rehearsed(
        guest,
        "sysctl",
        'sysctl = ["vm.swappiness=20", "kernel.pid_max=1"]',
        'sysctl = ["vm.swapiness=20"]',
    )
    assert undone.startswith("rolled back: cannot set kernel.pid_max to '1': Invalid argument")
    assert guest.sh("cat /proc/sys/vm/swappiness").out == "10\n"
    assert "refused: update.sysctl: vm.swapiness: this kernel has no such setting" in unknown


def test_kernel_module(guest):
    """Loaded with a parameter under a paused guest; unloaded; one in use is refused."""
    guest.sh("modprobe --remove dummy")
    dummy, kvm = 'module = "dummy"\n', 'module = "kvm"\n'
    before = guest.sh("cat /sys/module/kvm/parameters/halt_poll_ns").out
    maintained(guest, "kernel-module", dummy + 'parameters = ["numdummies=2"]')
    assert guest.sh("ls /sys/class/net | grep dummy").out == "dummy0\ndummy1\n"
    unloaded, not_loaded, undone, in_use = rehearsed(
        guest,
        "kernel-module",
        dummy + 'action = "unload"',
        dummy + 'parameters = ["numdummies=x"]',
        kvm + 'action = "parameter"\nparameters = ["halt_poll_ns=1234", "nx_huge_pages=x"]',
        kvm + 'action = "unload"',
    )
    assert unloaded == "applied: dummy unloaded"
    assert not_loaded.startswith("rolled back: modprobe ended with status 1")
    assert guest.sh("test -e /sys/module/dummy").code == 1
    assert undone.startswith("rolled back: cannot set nx_huge_pages of kvm")
    assert guest.sh("cat /sys/module/kvm/parameters/halt_poll_ns").out == before != "1234\n"
    assert "refused: update.module: kvm is in use by kvm_amd" in in_use


def test_packages(guest):
    """Upgraded from a local repository under a paused guest; what cannot be configured is rolled
    back; a kernel is refused, by whatever name; what asks for a reboot is not in force."""
    versions = range(1, 6)
    with_packages(guest, *[f"harness-agent={v}" for v in versions], "linux-image-harness=1")
    two, three, four, five = (f'{SOURCE}packages = ["harness-agent={v}"]\n' for v in versions[1:])
    domain = maintained(guest, "packages", two)
    assert domain["update_detail"] == "harness-agent 1 → 2"
    assert version(guest, "harness-agent") == "2"
    undone, nothing, kernel, disguised, asking = rehearsed(
        guest,
        "packages",
        three,
        two,
        f'packages = ["{REPOSITORY}/linux-image-harness_1_all.deb"]',
        five,
        four,
    )
    assert undone.startswith("rolled back: apt-get ended with status 100")
    assert "nothing would change" in nothing
    assert "refused: " in kernel
    assert "kernel takes a reboot of the host" in kernel
    assert "refused: " in disguised
    assert "kernel (/boot/vmlinuz-harness) takes a reb" in disguised
    assert asking.startswith("not in force: a package asks for a reboot of the host")
    assert version(guest, "harness-agent") == "4"
    assert guest.sh("dpkg --audit; rm /run/reboot-required").out == ""


def test_libvirt(guest):
    """A package of libvirt's and the daemon itself, renewed under a paused guest, which it knows
    again afterwards; the run's own connection is lost and opened again."""
    with_packages(guest, *[f"libvirt-harness={version}" for version in (1, 2, 3)])
    before = guest.sh("systemctl show --property=MainPID --value libvirtd").out
    domain = maintained(guest, "libvirt", SOURCE + 'packages = ["libvirt-harness=2"]')
    assert domain["update_detail"] == "libvirt-harness 1 → 2, libvirtd.service restarted"
    assert guest.sh("systemctl show --property=MainPID --value libvirtd").out not in (
        before,
        "0\n",
    )
    (undone,) = rehearsed(guest, "libvirt", SOURCE + 'packages = ["libvirt-harness=3"]')
    assert undone.startswith("rolled back: apt-get ended with status 100")
    assert version(guest, "libvirt-harness") == "2"
    assert guest.sh("virsh domstate kvm-1").out.strip() == "running"


@pytest.mark.parametrize("broken", [6, 7], ids=["fails", "hangs"])
def test_a_libvirt_that_does_not_start_is_put_back_in_the_window(guest, broken):
    """Without a daemon nobody could resume the guest: so it is not left to the rollback."""
    with_packages(guest, "libvirt-harness=1", f"libvirt-harness={broken}")
    settings = SOURCE + f'packages = ["libvirt-harness={broken}"]\n'
    file = configured(guest, "libvirt-broken", "libvirt", settings)
    # A budget for an emulated host: dpkg and the daemon's start take ten seconds there.
    ended = guest.sh(f"harness run kvm-1 --config {file} --budget 45 --json --no-report")
    assert ended.code == 3, ended.out + ended.err
    (domain,) = ended.record["update_domains"]
    assert domain["outcome"] == "error"
    assert "libvirtd" in domain["problems"][0]
    assert domain["pause_window_s"] < ended.record["budget_s"]
    kept(ended.record["guests"][0], "libvirt-events")
    assert version(guest, "libvirt-harness") == "1"
    assert guest.sh("virsh domstate kvm-1").out.strip() == "running"


def test_libvirt_as_debian_packs_it(guest):
    """libvirtd's own package is unpacked over itself and the daemon restarted, under a paused
    guest: the same QEMU goes on, with a right clock."""
    (deb,) = guest.sh(f"ls {DEBIANS}/*.deb").out.split()
    installed = version(guest, "libvirt-daemon")
    settings = f'packages = ["{deb}"]\nprevious = "{DEBIANS}"\nreinstall = true\n'
    domain = maintained(guest, "libvirt", settings)
    again = f"libvirt-daemon {installed} again, libvirtd.service restarted"
    assert domain["update_detail"] == again
    assert guest.sh("dpkg --audit").out == ""
