"""Real updates of a real host: each kind applied under a paused KVM guest, verified, rolled back.

Requires: the lab box with its two guests. Leaves behind: guests that run, with right clocks; in the
box, packages of ours, vm.swappiness and the module dummy.
"""

from __future__ import annotations

import shlex

import pytest

from tests.kvm.conftest import CONFIG
from tests.kvm.test_maintenance import kept

FOLDER = "/root/.local/state/harness/lab"
REPOSITORY = "/srv/harness-debs"
#: Packages without content; version 3 of each cannot be configured. Then the repository's index.
DEBS = f"""
set -e
rm -rf {REPOSITORY}; mkdir -p {REPOSITORY}; cd {REPOSITORY}
for package in "$@"; do
    name=${{package%=*}} version=${{package#*=}}
    mkdir -p tree/DEBIAN
    printf 'Package: %s\\nVersion: %s\\nArchitecture: all\\nMaintainer: harness <h@example.org>\\n' \\
        "$name" "$version" >tree/DEBIAN/control
    echo 'Description: for tests' >>tree/DEBIAN/control
    [ "$version" != 3 ] || printf '#!/bin/sh\\nexit 1\\n' >tree/DEBIAN/postinst
    [ "$version" != 3 ] || chmod 755 tree/DEBIAN/postinst
    deb=${{name}}_${{version}}_all.deb
    dpkg-deb --root-owner-group --build tree "$deb" >/dev/null
    {{ dpkg-deb --field "$deb"; echo "Filename: ./$deb"; echo "Size: $(stat -c %s "$deb")"
       echo "SHA256: $(sha256sum "$deb" | cut -d' ' -f1)"; echo; }} >>Packages
    rm -r tree
done
"""
OURS = [
    f"{name}={version}" for name in ("harness-agent", "libvirt-harness") for version in (1, 2, 3)
]


@pytest.fixture(scope="module")
def host(guests):
    """The box with a local repository, and version 1 of our packages installed."""
    words = shlex.join(["bash", "-c", DEBS, "debs", *OURS, "linux-image-harness=1"])
    made = guests.sh(
        f"{words} && cd {REPOSITORY} && dpkg --install *_1_all.deb && "
        "dpkg --purge linux-image-harness"
    )
    assert made.code == 0, made.err
    guests.sh("modprobe --remove dummy; sysctl --quiet --write vm.swappiness=60")
    return guests


def configured(box, kind: str, settings: str) -> str:
    """A configuration file in the box, for the guests that are up."""
    file = f"{FOLDER}/{kind}.toml"
    text = f'\n[update]\nkind = "{kind}"\n{settings}\n'
    ended = box.sh(f"(cat {CONFIG}; printf %s {shlex.quote(text)}) >{file}")
    assert ended.code == 0
    return file


def maintained(box, kind: str, settings: str) -> dict:
    """A whole maintenance of kvm-1 with this update; its record."""
    file = configured(box, kind, settings)
    ended = box.sh(f"harness run kvm-1 --config {file} --json")
    assert ended.code == 0, ended.out + ended.err
    (guest,) = ended.record["guests"]
    kept(guest)
    assert ended.record["update"]["kind"] == kind
    return ended.record["update_domains"][0]


def rehearsed(box, kind: str, settings: str) -> str:
    """The update alone, without a guest."""
    file = configured(box, kind, settings)
    ended = box.sh(f"cd /opt/harness && .venv/bin/python -m tests.kvm.rehearse {file}")
    assert ended.code == 0, ended.err
    return ended.out


def refused(box, kind: str, settings: str) -> str:
    """What `harness plan` says to it."""
    ended = box.sh(f"harness plan kvm-1 --config {configured(box, kind, settings)}")
    assert ended.code == 2, ended.out + ended.err
    return " ".join(ended.err.split())


def version(box, package: str) -> str:
    return box.sh(
        f"dpkg-query --show --showformat='${{Version}} ${{db:Status-Status}}' {package}"
    ).out


def test_sysctl(host):
    """Set under a paused guest; a value that the kernel refuses brings the old ones back."""
    domain = maintained(host, "sysctl", 'sysctl = ["vm.swappiness=10"]')
    assert domain["update_detail"] == "vm.swappiness 60 → 10"
    assert host.sh("cat /proc/sys/vm/swappiness").out == "10\n"
    said = rehearsed(host, "sysctl", 'sysctl = ["vm.swappiness=20", "kernel.pid_max=1"]')
    assert said.startswith("rolled back: cannot set kernel.pid_max to '1': Invalid argument")
    assert host.sh("cat /proc/sys/vm/swappiness").out == "10\n"
    assert "vm.swapiness: this kernel has no" in refused(
        host, "sysctl", 'sysctl = ["vm.swapiness=1"]'
    )


def test_kernel_module(host):
    """Loaded with a parameter under a paused guest; unloaded; one in use is refused."""
    load = 'module = "dummy"\nparameters = ["numdummies=2"]'
    maintained(host, "kernel-module", load)
    assert host.sh("ls -d /sys/class/net/dummy?").out.split() == [
        "/sys/class/net/dummy0",
        "/sys/class/net/dummy1",
    ]
    assert rehearsed(host, "kernel-module", 'module = "dummy"\naction = "unload"') == "applied\n"
    assert host.sh("test -e /sys/module/dummy").code == 1
    said = rehearsed(host, "kernel-module", load.replace("=2", "=x"))
    assert said.startswith("rolled back: modprobe ended with status 1")
    before = host.sh("cat /sys/module/kvm/parameters/halt_poll_ns").out
    both = 'parameters = ["halt_poll_ns=1234", "nx_huge_pages=rubbish"]'
    said = rehearsed(host, "kernel-module", f'module = "kvm"\naction = "parameter"\n{both}')
    assert said.startswith("rolled back: cannot set nx_huge_pages of kvm")
    assert host.sh("cat /sys/module/kvm/parameters/halt_poll_ns").out == before != "1234\n"
    kvm = 'module = "kvm"\naction = "unload"'
    assert "kvm is in use by kvm_amd" in refused(host, "kernel-module", kvm)


def test_packages(host):
    """Upgraded from a local repository; one that cannot be configured is rolled back; a kernel is
    refused; what was learnt is said."""
    source = f'repository = "{REPOSITORY}"\n'
    two = source + 'packages = ["harness-agent=2"]'
    domain = maintained(host, "packages", two)
    assert domain["update_detail"] == "harness-agent 1 → 2"
    assert version(host, "harness-agent") == "2 installed"
    said = rehearsed(host, "packages", source + 'packages = ["harness-agent=3"]')
    assert said.startswith("rolled back: apt-get ended with status 100")
    assert version(host, "harness-agent") == "2 installed"
    assert host.sh("dpkg --audit").out == ""
    assert "nothing would change" in refused(host, "packages", two)
    held = source + 'packages = ["harness-agent=3"]\nhold = ["harness-agent"]'
    assert "harness-agent 2 → 3, which is held" in refused(host, "packages", held)
    kernel = f'packages = ["{REPOSITORY}/linux-image-harness_1_all.deb"]'
    assert "kernel takes a reboot of the host" in refused(host, "packages", kernel)
    planned = host.sh(f"harness plan kvm-1 --config {configured(host, 'packages', two + AGAIN)}")
    assert planned.code == 0, planned.err
    assert "the update changes: harness-agent 2 again" in planned.err
    # Another transaction than before, so nothing was learnt of it yet.
    assert "the default of kind packages" in planned.out


AGAIN = "\nreinstall = true"


def test_libvirt(host):
    """A package of libvirt's and the daemon itself, renewed under a paused guest, which it knows
    again afterwards; the run's own connection is lost and opened again."""
    source = f'repository = "{REPOSITORY}"\n'
    before = host.sh("systemctl show --property=MainPID --value libvirtd").out
    domain = maintained(host, "libvirt", source + 'packages = ["libvirt-harness=2"]')
    assert domain["update_detail"] == "libvirt-harness 1 → 2, libvirtd.service restarted"
    assert host.sh("systemctl show --property=MainPID --value libvirtd").out not in (before, "0\n")
    said = rehearsed(host, "libvirt", source + 'packages = ["libvirt-harness=3"]')
    assert said.startswith("rolled back: apt-get ended with status 100")
    assert version(host, "libvirt-harness") == "2 installed"
    assert host.sh("virsh domstate kvm-1").out.strip() == "running"
