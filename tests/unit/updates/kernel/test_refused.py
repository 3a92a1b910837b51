"""Kind ``kernel`` refuses at plan time, and once more before a guest is paused; hosts in memory."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.core.errors import HypervisorError, PlanError
from harness.core.timebase import Deadline
from harness.host import ram_folder
from harness.host.kernel import kexec
from harness.host.kernel.kexec import KernelImage
from harness.host.lifecycle import GuestState
from harness.testing.hypervisor import FakeHypervisor
from harness.updates.kernel import launcher, preflight, update
from harness.updates.kernel.next_kernel import KernelFiles, command_line
from harness.updates.kernel.settings import KernelSettings
from harness.updates.kernel.update import KernelUpdate
from harness.updates.protocol import Site, UpdateContext
from tests.unit.host.region.test_facts import FIT, LINE
from tests.unit.updates.kernel.test_belongings import ON_REGION
from tests.unit.updates.qemu.test_update import Swaps


class Bench:
    """A host with guest a in the run; b is shut off."""

    def __init__(self, folder: Path) -> None:
        self.host = FakeHypervisor({"a": GuestState.RUNNING, "b": GuestState.SHUT_OFF})
        self.host.parking.looks["a"] = {"backings": ON_REGION}
        self.update = KernelUpdate(KernelSettings(kernel=Path("/boot/vmlinuz-6.12")), Site())
        self.asked: list[tuple[object, ...]] = []
        swap = Swaps(self.host)
        self.context = UpdateContext("run", folder, "0", ("a",), folder, 30.0, swap)

    def plan(self) -> None:
        self.update.check()
        now = Deadline.after(30)
        known = self.host.guests(now)
        self.update.examine([one for one in known if one.name == "a"], self.host, now)


@pytest.fixture
def bench(tmp_path, monkeypatch) -> Bench:
    found = Bench(tmp_path)
    image = KernelImage(Path("/boot/vmlinuz-6.12"), "6.12", "#1")
    files = KernelFiles(image, Path("/boot/initrd.img-6.12"))
    line = tmp_path / "cmdline"
    line.write_text(LINE)

    def require(*words: object) -> object:
        found.asked.append(words)
        return FIT.enrolled

    monkeypatch.setattr(KernelFiles, "find", lambda kernel, initrd: files)
    monkeypatch.setattr(preflight, "require_kernel", require)
    monkeypatch.setattr(update, "require_this_host", lambda kind, site: None)
    monkeypatch.setattr(launcher, "require_root", lambda: None)
    monkeypatch.setattr(ram_folder, "backing_folder", lambda: Path("/ram"))
    monkeypatch.setattr(update, "_CMDLINE", line)
    monkeypatch.setattr(ram_folder, "free_bytes", lambda folder: 1 << 30)
    monkeypatch.setattr(kexec, "load", lambda *words: pytest.fail("a kernel was loaded"))
    return found


def test_the_kernel_is_judged_by_the_line_that_it_is_going_to_have(bench):
    """With what harness adds to it, not by what was configured."""
    bench.plan()
    ((release, kernel, initrd, line, silent_s),) = bench.asked
    assert (release, kernel.name, initrd.name) == ("6.12", "vmlinuz-6.12", "initrd.img-6.12")
    assert line == command_line(LINE, launcher.path())
    assert silent_s >= bench.update.expected_s + 120  # their return may hold up the boot


def test_a_guest_that_is_not_in_the_run_is_refused(bench):
    """It would end with this kernel."""
    bench.host.states["b"] = GuestState.PAUSED
    with pytest.raises(PlanError, match="b is not in the run"):
        bench.plan()


def test_a_guest_that_was_started_since_is_refused_before_a_guest_is_paused(bench):
    """Nothing is loaded, no guest is prepared."""
    bench.plan()
    bench.host.states["b"] = GuestState.RUNNING
    with pytest.raises(PlanError, match="b is not in the run"):
        bench.update.prepare(bench.context, Deadline.after(30))


def test_a_guest_whose_ram_would_end_with_the_kernel_is_refused(bench):
    """It is on a tmpfs, where it does for kind qemu."""
    bench.host.parking.looks["a"] = {}
    with pytest.raises(PlanError, match="would end with this kernel"):
        bench.plan()


def test_a_guest_that_cannot_be_looked_at_is_refused(bench):
    """By name, with the reason."""

    def fail() -> None:
        raise HypervisorError("no answer", operation="looking")

    bench.host.before["look", "a"] = fail
    with pytest.raises(PlanError, match=r"cannot be looked at: a: no answer"):
        bench.plan()


def test_a_word_with_a_space_stays_one_word():
    """A kernel reads quotes; what is for init is not given to a launcher."""
    line = command_line('a=1 dyndbg="file x +p" BOOT_IMAGE=/k ro init=/x -- single', Path("/l"))
    assert line == 'a=1 "dyndbg=file x +p" rw init=/l'
