"""An emulated host of 4 GiB whose kernel is replaced, or that is booted anew, by its own disk.

``host``  a lab box of its own with this checkout: ``host.sh("uname -r")``, ``host.harness("plan")``
``resident``  one of all tests, set up, rehearsed, with a second kernel, and two guests that run
``preserving``  another one of all tests: no region, and two kernels that hand memory over

``setup-host --resident 1G --region`` in it, ``host.reboot()`` and ``host.rehearse()`` make it one
whose kernel may be replaced.

Its boot loader is the test's: QEMU is given the command line that real GRUB wrote in the box, by
what harness has told it. Requires: HARNESS_REQUIRE=live-kernel, as `make test-live-kernel` has it;
else skipped, as an emulated host takes a core for minutes; for `preserving`, HARNESS_REQUIRE=luo.
Leaves behind: nothing.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.kernel.box import PLAIN
from harness.lab.images import ensure
from harness.testing.required import required
from tests.live_kernel import watchdog
from tests.live_kernel.enrolled import Enrolled, bring_kernel
from tests.live_kernel.machine import Machine
from tests.live_kernel.preserving import KERNELS, SWITCHES, Preserving, install
from tests.live_kernel.way import way

#: Debian's own initrd, by which the kernel is started anew, has to be told the root.
#: And QEMU's emulated CPU does not say that its counter goes on, though it does.
LINE = f"{PLAIN} tsc=reliable root=/dev/vda"
#: KVM that is in the kernel starts before the counter's rate is known well; where the CPU does not
#: say that the rate stays, it goes by the first guess, and guests' timers may never end.
COUNTER = "setcpuid=constant_tsc,nonstop_tsc"
ROOT = Path(__file__).parents[2]


def pytest_configure(config):
    """Here and not in pyproject.toml, of which the lab box's image is made."""
    what = "live_kernel: needs an emulated host whose kernel is replaced (make test-live-kernel)"
    config.addinivalue_line("markers", what)
    what = "luo: needs an emulated host with a kernel that hands memory over (make test-luo)"
    config.addinivalue_line("markers", what)


def pytest_collection_modifyitems(items):
    """Booting the host is part of the first test's time."""
    for item in items:
        if "preserving" in getattr(item, "fixturenames", ()) and "live_kernel" in str(item.path):
            item.add_marker(pytest.mark.luo)
            item.add_marker(pytest.mark.timeout(3600))
        elif {"host", "enrolled"} & set(getattr(item, "fixturenames", ())) and "live_kernel" in str(
            item.path
        ):
            item.add_marker(pytest.mark.live_kernel)
            item.add_marker(pytest.mark.timeout(3600))


@pytest.fixture
def host(tmp_path) -> Iterator[Machine]:
    """An emulated host, booted without a region, with GRUB's configuration as Debian makes it."""
    with _booted(tmp_path) as machine:
        yield machine


@pytest.fixture(scope="session")
def enrolled(tmp_path_factory) -> Iterator[Enrolled]:
    """An emulated host of all tests that ask for it, whose kernel may be replaced."""
    folder = tmp_path_factory.mktemp("enrolled")
    with (
        way() as outside,
        _booted(folder, more=(*outside.words, *watchdog.words(folder))) as machine,
    ):
        machine.harness("setup-host", "--resident", "1G", "--region")
        machine.reboot()
        machine.rehearse()
        old = machine.sh("uname -r").strip()
        (folder / "kernel").mkdir()
        yield Enrolled(machine, old, bring_kernel(machine, folder / "kernel"), outside)


@pytest.fixture
def resident(enrolled) -> Enrolled:
    """The same, with its two guests: those that another test has left there, or new ones."""
    enrolled.have_guests()
    return enrolled


@pytest.fixture(scope="session")
def preserving(tmp_path_factory) -> Iterator[Preserving]:
    """An emulated host without a region, whose kernel hands memory over, and two guests."""
    folder = tmp_path_factory.mktemp("preserving")
    with _booted(folder, needs="luo", make="test-luo") as machine:
        (folder / "kernels").mkdir()
        releases = install(machine, folder / "kernels", ensure(KERNELS, print))
        machine.harness("setup-host", "--resident", "1G")
        machine.rehearse()
        found = Preserving(machine, *releases)
        found.have_guests()
        found.expect_timers()
        yield found


@contextmanager
def _booted(
    folder: Path,
    needs: str = "live-kernel",
    make: str = "test-live-kernel",
    more: tuple[str, ...] = (),
) -> Iterator[Machine]:
    if not required(needs):
        pytest.skip(f"no emulated host: `make {make}` boots one")
    assert os.geteuid() == 0
    qemu = subprocess.run([ROOT / "scripts/second-qemu"], check=True, stdout=subprocess.PIPE)
    image, line = ensure("labbox", print), LINE
    if needs == "luo":
        # Its initrd's modules are of another kernel, which does without any.
        image = replace(image, kernel=ensure(KERNELS, print).kernel)
        line = f"{LINE} {SWITCHES} {COUNTER}"
    with Machine(folder, image, Path(qemu.stdout.decode().split()[-1]), line, more) as machine:
        machine.settle()
        yield machine
