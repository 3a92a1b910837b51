"""Networks of libvirt's: described by one kernel, started by the next; libvirt's test driver."""

from __future__ import annotations

import os
import signal
import subprocess

import libvirt
import pytest

from harness.core.errors import HypervisorError
from harness.host.kernel import networks

DEFAULT = "test:///default"
NIC = "<interface type='network'><source network='{}' bridge='virbr0'/></interface>"
MADE = "<network><name>made</name><bridge name='virbr7'/></network>"


def test_the_networks_of_guests_are_those_of_their_nics():
    """A bridge of the host's is none."""
    bridge = "<interface type='bridge'><source bridge='br0'/></interface>"
    texts = [
        f"<domain><devices>{NIC.format('a')}{bridge}</devices></domain>",
        f"<domain><devices>{NIC.format('b')}{NIC.format('a')}</devices></domain>",
        "<domain/>",
    ]
    assert networks.networks_of(texts) == {"a", "b"}


@pytest.mark.libvirt
def test_a_network_that_is_not_known_is_refused():
    """Before a guest is paused; of a guest without a network nothing is asked."""
    assert networks.describe(DEFAULT, []) == {}
    with pytest.raises(HypervisorError, match="describing networks"):
        networks.describe(DEFAULT, ["nowhere"])


@pytest.mark.libvirt
def test_one_that_is_gone_is_made_and_one_that_is_off_is_started(monkeypatch):
    """One that runs is left as it is."""
    host = libvirt.open(DEFAULT)
    monkeypatch.setattr(libvirt, "open", lambda uri: host)
    monkeypatch.setattr(host, "close", lambda: None)
    host.networkLookupByName("default").destroy()
    described = {"default": "<not read/>", "made": MADE}
    for _ in range(2):
        networks.start(DEFAULT, described)
        assert sorted(one.name() for one in host.listAllNetworks() if one.isActive()) == [
            "default",
            "made",
        ]


def test_a_networks_daemon_and_its_children_yield_for_that_time(tmp_path):
    """And one that has ended, or never was, is no error."""
    words = ["sh", "-c", "sleep 60 & echo $!; wait"]
    with subprocess.Popen(words, stdout=subprocess.PIPE) as daemon:
        child = int(daemon.stdout.readline())
        pids = (daemon.pid, child)
        (tmp_path / "a.pid").write_text(f"{daemon.pid}\n")
        (tmp_path / "b.pid").write_text("no number\n")
        with networks.in_the_background(["a", "b", "none"], tmp_path):
            assert [os.getpriority(os.PRIO_PROCESS, pid) for pid in pids] == [19, 19]
        assert [os.getpriority(os.PRIO_PROCESS, pid) for pid in pids] == [0, 0]
        with networks.in_the_background(["a"], tmp_path):
            os.kill(child, signal.SIGKILL)
            daemon.wait()
