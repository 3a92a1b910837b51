"""Running guests are adopted, and something breaks: each is back with its RAM, nothing is left.

Requires: the session's lab, whose RAM folder is in memory. Leaves behind: nothing.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from xml.etree import ElementTree

import pytest

from harness.host.copied_ram import MANAGED
from harness.host.ram_folder import backing_folder, free_bytes
from harness.updates.qemu.eligibility import obstacles
from harness.updates.qemu.swapping import FILES
from tests.drills.conftest import DEADLY, RUNNING, Maintenance, becomes
from tests.residents import KEEP, Residents, residents

MIB = 1 << 20
RAM_MIB = 256
#: Beside its RAM, for a guest's state while it is copied; of the RAM that was ever touched.
STATE_MIB = 64
#: `harness` that does not look whether there is room.
BLIND = """
from harness.updates.qemu import adopt
adopt.AdoptUpdate._refuse_without_room = lambda *ignored: None
from harness.cli.main import main
main()
"""


@pytest.fixture(scope="module")
def there(lab, libvirt, tmp_path_factory):
    """Guests as anybody has them: their RAM is private memory of their QEMU."""
    folder = tmp_path_factory.mktemp("private")
    with residents(folder, libvirt, count=4, resident=False) as found:
        yield found


@pytest.fixture
def private(there) -> str:
    """The name of a guest that no drill has adopted yet."""
    names = [name for name in there.guests if obstacles(there.look(name))]
    assert names, "the drills need more guests"
    return names[0]


@pytest.fixture
def adopt(there, tmp_path):
    """``adopt("res-1", "--dry-run")``: that command, when it has ended."""

    def run(*words: str, python: str | None = None) -> subprocess.CompletedProcess[str]:
        how = ["-m", "harness"] if python is None else ["-c", python]
        return subprocess.run(
            [sys.executable, *how, "adopt", "-c", str(there.config), *words],
            capture_output=True,
            text=True,
            timeout=120,
            env={
                **os.environ,
                "HARNESS_STATE_DIR": str(tmp_path / "state"),
                "HARNESS_NO_REPORT": "1",
            },
        )

    return run


@contextmanager
def room(size: int) -> Iterator[None]:
    """``size`` bytes are free where RAM would come to lie."""
    folder = backing_folder()
    about = os.statvfs(folder)
    used = (about.f_blocks - about.f_bfree) * about.f_frsize
    remount(f"{used + size}")
    try:
        yield
    finally:
        remount("50%")


def remount(size: str) -> None:
    subprocess.run(["mount", "-o", f"remount,size={size}", str(backing_folder())], check=True)


def mebibytes(pattern: str, said: str) -> list[int]:
    """The sizes that were said."""
    found = re.search(pattern, said)
    assert found, said
    return [int(one) for one in found.groups()]


def assert_tidy(there: Residents, name: str) -> None:
    """No state is left, nor a way to it."""
    assert not (backing_folder() / KEEP).exists()
    assert not (FILES / there.guests[name]).exists()
    assert not os.path.lexists(MANAGED / f"{name}.save")
    there.assert_same(name)


def assert_private(there: Residents, name: str) -> None:
    """It is as it was."""
    assert "private memory" in obstacles(there.look(name))[0].reason
    assert_tidy(there, name)


def defined(name: str) -> ElementTree.Element:
    text = subprocess.run(
        ["virsh", "dumpxml", "--inactive", name], capture_output=True, text=True, check=True
    ).stdout
    return ElementTree.fromstring(text)


@contextmanager
def persistent(name: str, folder: Path) -> Iterator[None]:
    """What a guest is booted by stays when it has ended."""
    described = subprocess.run(["virsh", "dumpxml", name], capture_output=True, text=True)
    file = folder / f"{name}.xml"
    file.write_text(described.stdout)
    subprocess.run(["virsh", "define", str(file)], check=True, capture_output=True)
    try:
        yield
    finally:
        subprocess.run(["virsh", "undefine", name], capture_output=True)


def test_an_adopted_guest_can_have_its_qemu_replaced(there, private, adopt, tmp_path):
    """Beforehand it is said how long it takes and what room; afterwards there is nothing to do."""
    planned = json.loads(adopt(private, "--dry-run", "--json").stdout)
    (told,) = [one for one in planned["warnings"] if "paused for about" in one]
    ram, used, taken = mebibytes(r"(\d+) MiB of RAM, (\d+) MiB in use.* takes (\d+) MiB of ", told)
    assert ram == RAM_MIB
    assert abs(taken - (ram + used + STATE_MIB)) <= 1  # each is rounded
    before = there.look(private).process
    done = adopt(private, "--json")
    assert done.returncode == 0, done.stderr
    assert there.look(private).process != before
    assert_tidy(there, private)
    again = adopt(private)
    assert again.returncode == 2
    assert "can be replaced already" in again.stderr
    config = there.configured(again=True)
    replaced = Maintenance(tmp_path, private, "-c", config)
    assert replaced.ended() == 0, replaced.err
    assert_tidy(there, private)


def test_a_guest_that_outlives_its_shutdown_boots_such_that_it_can_be_kept(
    there, private, adopt, tmp_path
):
    """What it is booted by is changed, and nothing else of that."""
    with persistent(private, tmp_path):
        before = ElementTree.tostring(defined(private))
        assert adopt(private, "--dry-run").returncode == 0
        assert ElementTree.tostring(defined(private)) == before
        done = adopt(private)
        assert done.returncode == 0, done.stderr
        after = defined(private)
        assert after.find("memoryBacking/source").get("type") == "file"
        assert after.find("memoryBacking/access").get("mode") == "shared"
        assert_tidy(there, private)


def test_without_room_nobody_is_paused(there, private, adopt):
    """What is there and what it takes is said."""
    with room(300 * MIB):
        free = free_bytes(backing_folder()) / MIB
        done = adopt(private)
    assert done.returncode == 2
    (needed,) = mebibytes(rf"has {free:.0f} MiB free; (\d+) MiB are needed", done.stderr)
    assert RAM_MIB + STATE_MIB < needed <= 2 * RAM_MIB + STATE_MIB
    assert_private(there, private)


@pytest.mark.parametrize(
    ("free_mib", "said"),
    [(40, "could not be parked"), (330, "it is in its old QEMU again")],
    ids=["for its state", "for its RAM"],
)
def test_when_room_runs_out_the_guest_is_as_it_was(there, private, adopt, free_mib, said):
    """Somebody else was quicker to use it: found while it is saved, or while it is restored."""
    with room(free_mib * MIB):
        done = adopt(private, "--json", python=BLIND)
    assert done.returncode == 3, done.stderr
    (domain,) = json.loads(done.stdout)["update_domains"]
    assert said in domain["problems"][0]
    assert_private(there, private)


def test_a_guest_that_is_not_there_is_said_to_be_so(adopt):
    """With the name that was meant."""
    done = adopt("res-11")
    assert done.returncode == 2
    assert "res-1" in done.stderr
    assert "Traceback" not in done.stderr


def died(there: Residents, folder: Path, name: str, line: str, *, both: bool) -> Maintenance:
    """An adoption that dies when it has written ``line``, perhaps after its guardian."""
    run = Maintenance(
        folder,
        name,
        "-c",
        there.configured(kind="adopt"),
        python=DEADLY,
        DIE_AT=line,
        DIES="both" if both else "run",
    )
    assert run.ended() == -signal.SIGKILL, run.err
    return run


@pytest.mark.parametrize("line", ["parking", "unparking"])
def test_the_run_dies_and_its_guardian_brings_the_guest_back(
    there, private, libvirt, tmp_path, line
):
    """Also while libvirt is saving or restoring it for the run that is dead."""
    run = died(there, tmp_path, private, line, both=False)
    becomes(libvirt, there.guests[private], RUNNING, within_s=30.0)
    there.assert_same(private)
    code, guests = run.recover()
    assert code == 0, json.dumps(guests, indent=1)
    assert_tidy(there, private)


@pytest.mark.parametrize("line", ["parked", "unparking", "unparked"])
def test_both_die_and_recover_brings_the_guest_back(there, private, libvirt, tmp_path, line):
    """With its RAM, wherever they die."""
    run = died(there, tmp_path, private, line, both=True)
    code, guests = run.recover()
    assert code == 0, json.dumps(guests, indent=1)
    becomes(libvirt, there.guests[private], RUNNING, within_s=1.0)
    assert_tidy(there, private)
    assert run.recover() == (0, [])


def test_a_stranger_starts_a_guest_whose_adoption_died(there, private, libvirt, tmp_path):
    """By plain virsh start: it has its RAM, and recover only lets it run and tidies up."""
    with persistent(private, tmp_path):
        run = died(there, tmp_path, private, "parked", both=True)
        started = subprocess.run(["virsh", "start", private], capture_output=True, text=True)
        assert started.returncode == 0, started.stderr
        code, guests = run.recover()
        assert code == 0, json.dumps(guests, indent=1)
        becomes(libvirt, there.guests[private], RUNNING, within_s=1.0)
        assert_tidy(there, private)
