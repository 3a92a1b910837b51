"""What is done to the region at each boot: a new file system, but never under guests that wait."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.core.errors import DeadlineExpired, InfrastructureError
from harness.host.region import boot, device
from harness.host.region.boot import make_ready, may_hold_guests
from harness.host.region.device import block_device
from harness.host.region.handover import is_pending
from harness.host.region.place import GIB, Region
from tests.unit.host.region.test_facts import FIT

REGION = Region(5 * GIB, GIB)
IOMEM = "140000000-17fffffff : Persistent Memory (legacy)\n"


class Bench:
    """A kernel with a real NVDIMM and the region."""

    def __init__(self, folder: Path) -> None:
        self.ran: list[tuple[str, ...]] = []
        self.nvdimm, self.folder = folder / "nd", folder / "ram"
        self.link, self.handover = folder / "run/region", folder / "handover"
        self.namespace("namespace0.0", 16 * GIB, GIB, "pmem0")
        self.namespace("namespace1.0", 5 * GIB, GIB, "pmem1")
        (folder / "dev").mkdir()
        for name in ("pmem0", "pmem1"):
            (folder / "dev" / name).write_bytes(bytes(1024 + 0x38) + b"\x53\xef" + bytes(100))
        (folder / "iomem").write_text(IOMEM)

    def namespace(self, name: str, start: int, size: int, disk: str) -> None:
        (self.nvdimm / name / "block" / disk).mkdir(parents=True)
        (self.nvdimm / name / "resource").write_text(f"{start:#x}\n")
        (self.nvdimm / name / "size").write_text(f"{size}\n")

    def make_ready(self) -> str:
        return make_ready(
            REGION,
            self.folder,
            link=self.link,
            handover=self.handover,
            nvdimm=self.nvdimm,
            patience_s=0.0,
        )


@pytest.fixture
def bench(tmp_path, monkeypatch) -> Bench:
    found = Bench(tmp_path)
    monkeypatch.setattr(boot, "IOMEM", tmp_path / "iomem")
    monkeypatch.setattr(device, "_DEV", tmp_path / "dev")
    monkeypatch.setattr(boot, "run", lambda words: found.ran.append(tuple(words)))
    return found


def test_the_region_gets_a_new_file_system_and_no_other_device_does(bench, tmp_path):
    """It is found by its addresses: a real NVDIMM of the same size is left alone."""
    assert "a new file system" in bench.make_ready()
    loading, making = bench.ran
    assert loading == ("modprobe", "--all", "nd_e820", "nd_pmem")
    assert making[0] == "mkfs.ext4"
    assert making[-1] == str(tmp_path / "dev/pmem1")
    assert bench.link.readlink() == tmp_path / "dev/pmem1"


@pytest.mark.parametrize("how", ["file", "folder", "a link to nowhere"])
def test_under_guests_that_wait_nothing_is_touched(bench, how, tmp_path):
    """Their RAM is in there; it can be mounted all the same."""
    if how == "file":
        bench.handover.touch()
    elif how == "folder":
        bench.handover.mkdir()
    else:
        bench.handover.symlink_to("/nowhere/at/all")
    assert "a handover is pending" in bench.make_ready()
    assert [words[0] for words in bench.ran] == ["modprobe"]
    assert bench.link.readlink() == tmp_path / "dev/pmem1"


def test_where_the_memory_was_lost_nobody_waits_and_libvirt_gets_its_folder(bench, tmp_path):
    """A cold boot: not even the file system is there, and a libvirtd without it does not start."""
    bench.handover.touch()
    (tmp_path / "dev/pmem1").write_bytes(bytes(4096))
    assert "its memory was lost" in bench.make_ready()
    assert [words[0] for words in bench.ran] == ["modprobe", "mkfs.ext4"]


def test_a_device_that_cannot_be_read_may_hold_guests(tmp_path):
    assert may_hold_guests(tmp_path / "none")


def test_where_it_cannot_be_told_guests_may_wait(tmp_path):
    """Only a file that is certainly not there is no handover."""
    assert not is_pending(tmp_path / "handover")
    (tmp_path / "file").touch()
    assert is_pending(tmp_path / "file" / "handover")


def test_what_is_mounted_already_is_left_alone(bench, monkeypatch):
    """By whoever brought guests back before this was run."""
    monkeypatch.setattr(boot, "is_mounted", lambda region, folder, root: True)
    assert "already" in bench.make_ready()
    assert [words[0] for words in bench.ran] == ["modprobe"]


def test_a_kernel_that_has_it_as_ram_is_no_place_for_it(bench, tmp_path):
    """Nothing is loaded, and nothing is written."""
    (tmp_path / "iomem").write_text("100000000-17fffffff : System RAM\n")
    with pytest.raises(InfrastructureError, match="not set aside 1024 MiB at 0x140000000") as told:
        bench.make_ready()
    assert "memmap=1024M!0x140000000" in told.value.hint
    assert bench.ran == []


def test_a_device_that_does_not_come_is_waited_for_and_told(bench):
    """A part of the region is not the region."""
    (bench.nvdimm / "namespace1.0/size").write_text("1024\n")
    assert block_device(REGION, bench.nvdimm) is None
    with pytest.raises(DeadlineExpired, match="waiting for the region"):
        bench.make_ready()
    assert [words[0] for words in bench.ran] == ["modprobe"]
    assert not bench.link.exists()


def test_its_program_says_what_it_did_or_why_not(bench, monkeypatch, capsys, tmp_path):
    """To the unit's log, and by its exit status."""
    monkeypatch.setattr(boot, "make_ready", lambda region, folder: f"{region} {folder}")
    monkeypatch.setattr(boot, "settle_process", lambda: [])
    (tmp_path / "cmdline").write_text("quiet x=1\n")
    monkeypatch.setattr(boot, "COMMAND_LINE", tmp_path / "cmdline")
    monkeypatch.setattr(boot, "conclude", lambda line: FIT.rehearsal if "x=1" in line else None)
    assert boot.main(["0x140000000", "0x40000000", "/ram"]) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first == "1024 MiB at 0x140000000 /ram"
    assert "rehearsed 2026-11-27T20:00:00+00:00 has come up" in second

    def fail(region: Region, folder: Path) -> str:
        raise InfrastructureError("no region")

    monkeypatch.setattr(boot, "make_ready", fail)
    assert boot.main(["0x140000000", "0x40000000", "/ram"]) == 1
    assert "no region" in capsys.readouterr().err
