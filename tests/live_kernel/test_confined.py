"""The host's kernel is replaced under guests that AppArmor confines: they are confined again.

AppArmor is not in force when they are brought back: systemd, which loads it, has not begun.
Leaves behind: rules of harness in AppArmor's profiles, which are not loaded; no guest.
"""

from __future__ import annotations

import pytest

from tests.live_kernel.enrolled import GUESTS, configure, go_over, told
from tests.live_kernel.test_handover import SEEN

#: What confines the process of each guest.
LABELS = "for name in {}; do cat /proc/$(cat /run/libvirt/qemu/$name.pid)/attr/current; done"


@pytest.fixture
def confined(resident):
    """The host, whose guests were started when AppArmor was in force."""
    host = resident.host
    host.sh("harness lab down")
    host.sh("systemctl start apparmor && systemctl restart libvirtd")
    host.harness("setup-host", "--resident", "1G", "--region")  # its rules, beside what is there
    resident.have_guests()
    yield resident
    host.sh("harness lab down; aa-teardown; systemctl restart libvirtd")


def test_guests_go_on_under_another_kernel_as_confined_as_before(confined):
    """By a profile of each, which allows its RAM and nothing of the other's."""
    host = confined.host
    new, kernel, initrd = confined.other()
    before, labels = told(host), host.sh(LABELS.format(" ".join(GUESTS))).splitlines()
    assert all(one.startswith("libvirt-") and one.endswith(" (enforce)") for one in labels)
    assert len(set(labels)) == len(GUESTS)
    configure(host, kernel, initrd)
    go_over(host, new, before, SEEN)
    assert host.sh(LABELS.format(" ".join(GUESTS))).splitlines() == labels
    assert "libvirtd (enforce)" in host.sh("cat /proc/$(pidof libvirtd)/attr/current")
