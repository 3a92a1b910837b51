"""The lab's own guests and networks, made and removed on libvirt's test driver."""

from __future__ import annotations

import ipaddress

import pytest

from harness.core.errors import HypervisorError
from harness.core.timebase import Deadline
from harness.host.driver import LibvirtHypervisor
from harness.host.lifecycle import GuestState
from harness.host.provision import Provisioner

UUID = "33333333-3333-3333-3333-333333333333"
MAC = "52:54:00:aa:bb:cc"
NETWORK = """
<network>
  <name>harness-lab</name><bridge name='virbr77'/>
  <ip address='192.0.2.1' netmask='255.255.255.0'>
    <dhcp><range start='192.0.2.2' end='192.0.2.9'/></dhcp>
  </ip>
  <ip family='ipv6' address='2001:db8::1' prefix='64'/>
</network>
"""
GUEST = f"""
<domain type='test'>
  <name>made-1</name><uuid>{UUID}</uuid><memory>1024</memory><os><type>hvm</type></os>
  <devices>
    <interface type='network'>
      <mac address='{MAC}'/><source network='harness-lab'/><target dev='tap7'/>
    </interface>
  </devices>
</domain>
"""


def soon() -> Deadline:
    return Deadline.after(10)


@pytest.fixture
def node(tmp_path):
    """A host of libvirt's test driver without guests: its URI."""
    description = tmp_path / "node.xml"
    description.write_text("<node/>")
    return f"test://{description}"


def test_what_is_made_is_there_until_it_is_removed(node):
    """Removing twice does no harm; the subnets are those of IPv4."""
    with Provisioner.open(node) as lab:
        lab.create_network(NETWORK)
        assert lab.subnets() == [ipaddress.IPv4Network("192.0.2.0/24")]
        lab.create_guest(GUEST, "made-1")
        assert lab.guest_names() == {"made-1"}
        assert lab.is_there(UUID)
        lab.destroy_guest(UUID)
        lab.destroy_guest(UUID)
        assert not lab.is_there(UUID)
        lab.destroy_network("harness-lab")
        lab.destroy_network("harness-lab")
        assert lab.subnets() == []


def test_what_libvirt_refuses_is_an_error_of_ours(node):
    """By its code, with the guest's name."""
    with Provisioner.open(node) as lab:
        with pytest.raises(HypervisorError):
            lab.create_network("<network/>")
        with pytest.raises(HypervisorError, match="made-1"):
            lab.create_guest("<domain type='test'/>", "made-1")


def test_a_guest_of_a_network_has_an_address(tmp_path):
    """Matched by MAC, through the driver; what this libvirt cannot do is an error of ours."""
    description = tmp_path / "node.xml"
    description.write_text(f"<node>{NETWORK}{GUEST}</node>")
    hypervisor = LibvirtHypervisor.open(f"test://{description}", soon())
    try:
        hypervisor.ready(2, soon())
        info = hypervisor.find("made-1", soon())
        assert info.state.state is GuestState.RUNNING
        assert info.macs == (MAC,)
        addresses = hypervisor.addresses(info.uuid, soon())
        assert all(ipaddress.ip_address(one.address) and one.origin for one in addresses)
        assert addresses, "libvirt's test driver makes one up"
        with pytest.raises(HypervisorError, match="not supported"):
            hypervisor.leases(soon())
        assert hypervisor.process(info.uuid, soon()) is None
        assert hypervisor.host(soon()).hypervisor.lower().startswith("test")
    finally:
        hypervisor.close()
