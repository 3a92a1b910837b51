"""Kind `kernel`: what is done before a guest is paused, in which order, and what is undone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from harness.core import tsc
from harness.core.errors import UpdateFailed
from harness.core.timebase import Deadline
from harness.host import ram_links
from harness.host.kernel import kexec, networks, qemus_known
from harness.host.kernel.kexec import KernelImage
from harness.host.lifecycle import GuestState
from harness.host.region.handover import is_pending
from harness.host.region.place import Region
from harness.testing.hypervisor import FakeHypervisor
from harness.updates.kernel import completion, launcher, preflight, stores, update
from harness.updates.kernel.next_kernel import KernelFiles, command_line, is_older
from harness.updates.kernel.plan import read
from harness.updates.kernel.settings import KernelSettings
from harness.updates.kernel.update import KernelUpdate, bridges
from harness.updates.protocol import Site, UpdateContext
from tests.unit.updates.qemu.test_update import Swaps, soon

LINE = "BOOT_IMAGE=/vmlinuz root=/dev/sda1 ro quiet init=/old memmap=1024M!0x100000000"


class Watcher:
    """Who has disks written to again, should the run die while they are not."""

    def __init__(self, did: list[str]) -> None:
        self.did = did

    def require(self, deadline: Deadline) -> None:
        self.did.append("watched")

    def close(self) -> None:
        self.did.append("not watched")


class Bench:
    """A host with two guests, whose files are the test's."""

    def __init__(self, folder: Path, monkeypatch) -> None:
        self.folder = folder
        self.patch = monkeypatch.setattr
        self.did: list[str] = []
        self.handover = folder / "handover"
        self.ram = folder / "ram"
        self.ram.mkdir()
        self.host = FakeHypervisor({"a": GuestState.RUNNING, "b": GuestState.RUNNING})
        backing = self.host.parking.look("uuid-a", soon()).backings[0]
        for name in ("a", "b"):
            path = str(self.ram / f"1-{name}" / "pc.ram")
            self.host.parking.looks[name] = {"backings": (replace(backing, path=path),)}
        monkeypatch.setattr(update, "HANDOVER", self.handover)
        monkeypatch.setattr(preflight, "require_guests", lambda *words: None)
        monkeypatch.setattr(launcher, "path", lambda place=folder: folder / "init")
        monkeypatch.setattr(completion, "UNITS", folder)
        monkeypatch.setattr(completion.write, "__defaults__", (folder / "units",))
        monkeypatch.setattr(completion.forget, "__defaults__", (folder / "units",))
        monkeypatch.setattr(qemus_known, "prepared", lambda image, told: {"a.xml": "<a/>"})
        monkeypatch.setattr(networks, "describe", lambda uri, names: {})
        monkeypatch.setattr(update, "_CMDLINE", folder / "cmdline")
        (folder / "cmdline").write_text(LINE)
        monkeypatch.setattr(update, "Watch", lambda: Watcher(self.did))
        monkeypatch.setattr(kexec, "load", self.load)
        monkeypatch.setattr(kexec, "unload", lambda: self.did.append("unload"))
        self.update = KernelUpdate(KernelSettings(kernel=Path("/boot/vmlinuz")), Site())
        image = KernelImage(Path("/boot/vmlinuz"), "6.12", "#1")
        self.update._files = KernelFiles(image, Path("/boot/initrd"))
        self.update._store = stores.RegionStore()
        self.update._store._region = Region(1 << 32, 1 << 30)
        self.update._hypervisor = self.host
        self.update._uuids = {"a": "uuid-a", "b": "uuid-b"}
        self.swap = Swaps(self.host)

    def load(self, image: Path, initrd: Path, line: str) -> None:
        assert is_pending(self.handover)  # whoever dies from here on is found
        self.line = line
        self.did.append("load")

    def check_on_a_host(self, *, older: bool) -> None:
        """All that ``check`` asks of the machine is there; ``older``: the next kernel is."""
        found = SimpleNamespace(region=Region(1 << 32, 1 << 30))
        self.patch(KernelFiles, "find", lambda *words: self.update._files)
        self.patch(preflight, "require_kernel", lambda *words: found)
        self.patch(launcher, "require_root", lambda: None)
        self.patch(update, "is_older", lambda release, than: older)
        self.update.check()

    def context(self) -> UpdateContext:
        run = self.folder / "runs" / "run-1"
        return UpdateContext("run-1", run, "0", ("a", "b"), self.folder, 30.0, self.swap)


@pytest.fixture
def bench(tmp_path, monkeypatch):
    if not hasattr(tsc, "steady"):
        pytest.skip("no counter")
    return Bench(tmp_path, monkeypatch)


def test_everything_is_on_the_disk_before_a_guest_is_paused(bench):
    """The plan says who is held and by what each comes back; the page says whose it is."""
    bench.update.prepare(bench.context(), soon())
    plan = read(bench.handover)
    assert (plan.run_id, plan.release, plan.ram_folder) == ("run-1", "6.12", str(bench.ram))
    assert [one.name for one in plan.guests] == ["a", "b"]
    assert all(one.lasting and one.files.startswith(str(bench.ram)) for one in plan.guests)
    assert not plan.confined
    assert (bench.ram / "harness-handover").read_bytes().startswith(plan.magic.encode())
    assert [one.parking for one in bench.swap.prepared] == list(plan.guests)
    assert bench.did == ["watched", "load"]
    assert (bench.folder / "init").exists()
    assert (bench.folder / "units" / completion.NAME).exists()


def test_the_next_kernel_gets_todays_command_line_with_our_init_and_a_writable_root(bench):
    """What the boot loader said of itself is not said again."""
    bench.update.prepare(bench.context(), soon())
    assert bench.line == (
        f"root=/dev/sda1 quiet memmap=1024M!0x100000000 rw init={bench.folder / 'init'}"
    )
    assert command_line('a="b c" init=x', Path("/i")) == '"a=b c" rw init=/i'


def test_what_was_prepared_is_gone_when_this_kernel_goes_on(bench):
    """No later boot takes it for a handover."""
    bench.update.prepare(bench.context(), soon())
    bench.update.rollback(bench.context(), soon())
    assert bench.did == ["watched", "load", "not watched", "unload"]
    assert not is_pending(bench.handover)
    assert not (bench.folder / "init").exists()
    assert not (bench.folder / "units" / completion.NAME).exists()
    with pytest.raises(UpdateFailed, match="no kernel is loaded"):
        bench.update.apply(bench.context(), soon())


def test_guests_are_handed_over_with_folders_of_their_own(bench):
    """Made when they are paused: what a run left there before is gone."""
    handed: list[tuple[str, ...]] = []
    bench.swap.hand_over = lambda parkings, kernel, deadline: handed.append(
        tuple(one.name for one in parkings)
    )
    bench.update.prepare(bench.context(), soon())
    for _ in range(2):
        bench.update.apply(bench.context(), soon())
    assert handed == [("a", "b")] * 2
    for name in ("a", "b"):
        states = bench.ram / stores.STATES / f"uuid-{name}"
        assert sorted(one.name for one in states.iterdir()) == ["new.xml", "old.xml"]
        assert ram_links.keep_folder(bench.ram, f"uuid-{name}").is_dir()
        assert states.stat().st_mode & 0o077 == 0


def test_an_update_that_was_given_up_hands_nobody_over(bench):
    """Asked to end before it began."""
    bench.update.prepare(bench.context(), soon())
    bench.update.abandon()
    with pytest.raises(UpdateFailed, match="abandoned"):
        bench.update.apply(bench.context(), soon())


def test_bridges_are_made_again_where_no_network_makes_them():
    """Of each once, in order."""
    nic = "<interface type='{}'><source {}/></interface>"
    devices = [
        nic.format("bridge", "bridge='br1'"),
        nic.format("bridge", "bridge='br0'"),
        nic.format("network", "network='default' bridge='virbr0'"),
    ]
    text = f"<domain><devices>{''.join(devices)}</devices></domain>"
    assert bridges([text, text]) == ("br0", "br1")
    assert bridges(["<domain/>"]) == ()


def test_who_starts_it_is_told_beforehand_what_ends_and_where_the_result_is(tmp_path, monkeypatch):
    """A terminal on the host is gone with its kernel, and the exit code with it."""
    bench = Bench(tmp_path, monkeypatch)
    assert list(bench.update.warnings) == []
    bench.check_on_a_host(older=False)
    (said,) = bench.update.warnings
    assert "this terminal end" in said
    assert "6.12" in said
    assert "harness report" in said


@pytest.mark.parametrize(
    ("release", "than", "older"),
    [
        ("6.1.0-56-cloud-amd64", "6.12.95+deb12-cloud-amd64", True),
        ("6.12.95+deb12-cloud-amd64", "6.1.0-56-cloud-amd64", False),
        ("6.1.0-57-amd64", "6.1.0-56-amd64", False),
        ("6.1", "6.1.3", True),
        ("next", "6.1", True),
    ],
)
def test_an_older_kernel_is_told_by_its_numbers(release, than, older):
    """Of two builds with the same numbers none is."""
    assert is_older(release, than) is older


def test_of_an_older_kernel_is_said_what_its_vhost_may_lack(tmp_path, monkeypatch):
    """A guest that was started under the newer one was refused: `Features … unsupported`."""
    bench = Bench(tmp_path, monkeypatch)
    bench.check_on_a_host(older=True)
    assert "older than the kernel that runs" in bench.update.warnings[1]
