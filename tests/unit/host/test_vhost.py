"""What NICs have agreed on with vhost, as QEMU 7.2 and later ones tell it."""

from __future__ import annotations

from typing import Any

import pytest

from harness.core.errors import HypervisorError
from harness.host.vhost import agreed

#: As QEMU 7.2.22 answers; a feature that it has no name for is in a number.
NIC, DISK = "/machine/peripheral/net0/virtio-backend", "/machine/peripheral/vda/virtio-backend"
RESET = 1 << 40
SERVED = {"n-tlb-sections": 0, "max-queues": 0, "features": {}}
PLAIN = {"dev-features": ["VIRTIO_NET_F_MAC: Device has given MAC address"], "transports": []}
BY_NUMBER = {**PLAIN, "unknown-dev-features": RESET}
BY_NAME = {**PLAIN, "transports": ["VIRTIO_F_RING_RESET: Driver can reset a queue individually"]}


def monitor(devices: dict[str, tuple[str, dict[str, Any]]]) -> Any:
    """Of a QEMU with these devices: path → name and status."""

    def ask(command: str, **arguments: str) -> Any:
        if command == "x-query-virtio":
            return [{"path": path, "name": name} for path, (name, _) in devices.items()]
        assert command == "x-query-virtio-status"
        return devices[arguments["path"]][1]

    return ask


@pytest.mark.parametrize(
    ("status", "found"),
    [
        ({"guest-features": BY_NUMBER, "vhost-dev": SERVED}, {"VIRTIO_F_RING_RESET"}),
        ({"guest-features": BY_NAME, "vhost-dev": SERVED}, {"VIRTIO_F_RING_RESET"}),
        ({"guest-features": PLAIN, "host-features": BY_NUMBER, "vhost-dev": SERVED}, set()),
        ({"guest-features": {**PLAIN, "unknown-dev-features": RESET >> 1}, "vhost-dev": {}}, set()),
        ({"guest-features": BY_NUMBER}, set()),
    ],
)
def test_only_what_the_guest_has_agreed_on_with_the_kernel_counts(status, found):
    """Not what it was offered, and not what QEMU itself does."""
    assert agreed(monitor({NIC: ("virtio-net", status)})) == found


def test_a_disk_is_not_asked_about():
    """It is QEMU's own."""
    status = {"guest-features": BY_NUMBER, "vhost-dev": SERVED}
    assert agreed(monitor({DISK: ("virtio-blk", status)})) == set()


def test_a_qemu_that_cannot_tell_keeps_nobody():
    """Before 7.2."""

    def ask(command: str, **_: str) -> Any:
        raise HypervisorError("The command x-query-virtio has not been found", operation=command)

    assert agreed(ask) == set()
