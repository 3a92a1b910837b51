"""The lab box itself: what the provisioning script promises of it.

Requires: the lab box. Leaves behind: nothing.
"""

from __future__ import annotations


def test_the_box_is_what_provisioning_promises(box):
    """KVM, harness in the PATH, libvirt not at boot, the guest images, no way out."""
    assert box.sh("test -c /dev/kvm && ls -d /sys/module/kvm_*").code == 0
    assert box.sh("harness --version").out.startswith("harness, version")
    assert box.sh("systemctl is-enabled libvirtd.service").out.strip() == "disabled"
    assert box.sh("systemctl is-enabled libvirt-guests.service").out.strip() == "masked"
    assert box.sh("systemctl is-failed --quiet '*'").code != 0
    assert box.sh("ls -d /root/.cache/harness/images/{tiny,debian}-*/kernel").code == 0
    assert box.sh("timeout 5 bash -c '</dev/tcp/10.0.2.2/22'").code != 0
