"""Which drivers of libvirt's are needed, and that a libvirtd is told of those alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.host.kernel.drivers import needed_by, only

GUEST = "<domain><devices>{}</devices></domain>"


@pytest.mark.parametrize(
    ("device", "more"),
    [
        ("<disk type='file'/><interface type='network'/>", []),
        ("<interface type='bridge'><filterref filter='clean-traffic'/></interface>", ["nwfilter"]),
        ("<disk type='network'><source><auth><secret/></auth></source></disk>", ["secret"]),
        ("<disk type='file'><source><encryption/></source></disk>", ["secret"]),
        ("<disk type='volume'/>", ["storage"]),
        ("<hostdev mode='subsystem'/>", ["nodedev"]),
    ],
    ids=["plain", "filter", "secret", "encryption", "volume", "hostdev"],
)
def test_what_a_guest_has_says_which_drivers_it_needs(device, more):
    """By any of the guests."""
    found = needed_by([GUEST.format(""), GUEST.format(device)])
    assert found == tuple(sorted(["network", "qemu", *more]))


@pytest.fixture
def place(tmp_path) -> str:
    folder = tmp_path / "lib" / "x86_64" / "libvirt"
    folder.mkdir(parents=True)
    for name in ("network", "nodedev", "qemu"):
        (folder / f"libvirt_driver_{name}.so").write_text(name)
    return str(tmp_path / "lib" / "*" / "libvirt")


def test_a_libvirtd_finds_those_drivers_and_no_others(tmp_path, place):
    """In a folder of its own; made twice, as by an attempt that failed."""
    for _ in range(2):
        told = only(("network", "qemu"), tmp_path / "own", (place,))
    (folder,) = told.values()
    assert list(told) == ["LIBVIRT_DRIVER_DIR"]
    found = {one.name: one.read_text() for one in Path(folder).iterdir()}
    assert found == {"libvirt_driver_network.so": "network", "libvirt_driver_qemu.so": "qemu"}


def test_where_one_is_not_found_it_loads_what_there_is(tmp_path, place):
    """An architecture, or a distribution, that has them elsewhere."""
    assert only(("qemu", "secret"), tmp_path / "own", (place,)) == {}
    assert only((), tmp_path / "own", (place,)) == {}
