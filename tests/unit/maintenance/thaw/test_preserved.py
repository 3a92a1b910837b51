"""RAM that the kernel before has preserved is held again, or it is said why it is not."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from harness.core.errors import InfrastructureError
from harness.host import ram_links
from harness.host.kernel import early
from harness.host.luo import held_ram
from harness.maintenance.pause.parkable import parkable
from harness.maintenance.thaw import arrival, preserved
from harness.results.journal import Custody, Journal, Member, entries, fold
from harness.updates.kernel.plan import LUO, Preserved
from tests.unit.updates.kernel.test_plan import GUEST, PLAN

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="a keeper is started as another user")
OF_IT = (GUEST.name, GUEST.uuid)


class Handed:
    """A session that the kernel before has handed over."""

    there: dict[str, dict[int, int]] = {}
    did: list[str] = []

    def __init__(self, name: str) -> None:
        self.name, self.files = name, Handed.there.pop(name)

    @classmethod
    def retrieve(cls, name: str) -> Handed | None:
        return cls(name) if name in cls.there else None

    def file(self, token: int) -> int:
        try:
            return os.dup(self.files[token])
        except KeyError as error:
            raise InfrastructureError(f"session {self.name}: No such file") from error

    def finish(self) -> None:
        self.did.append("finish")

    def __enter__(self) -> Handed:
        return self

    def __exit__(self, *_: object) -> None:
        self.did.append("close")


@pytest.fixture
def plan(tmp_path, monkeypatch):
    """Of one guest, whose RAM a session has."""
    folder = tmp_path / "ram"
    folder.mkdir()
    keep = ram_links.keep_folder(folder, GUEST.uuid)
    file = os.memfd_create("ram")
    os.ftruncate(file, 8192)
    Handed.there, Handed.did = {"harness-1": {3: file}}, []
    monkeypatch.setattr(preserved, "Session", Handed)
    monkeypatch.setattr(early, "give_a_group", lambda *words: None)
    yield replace(
        PLAN,
        resident=LUO,
        session="harness-1",
        ram_folder=str(folder),
        preserved=(Preserved(GUEST.uuid, "pc.ram", 3, 8192, 65534, 65534),),
        guests=(replace(GUEST, keep=str(keep), ram={"pc.ram": "1:7"}, ram_folder=str(folder)),),
    )
    for pid in held_ram.keepers(keep / "ram"):
        held_ram.dismiss(pid)
    os.close(file)


@pytest.fixture
def journal(tmp_path, plan):
    """Of a run that has left another boot."""
    with Journal(tmp_path, plan.run_id) as found:
        found.intend(entries.RunStarted(boot_id="another"))
        found.intend(parkable(plan.guests[0], {}, {}))
        found.intend(entries.Pausing((Member(*OF_IT),)))
        found.intend(entries.Parked(*OF_IT))
        found.intend(entries.HandingOver(*OF_IT))
        found.intend(entries.Leaving("6.12", "another"))
        yield found


def test_ram_is_held_again_and_where_it_is_by_now_is_written(plan, journal):
    """By a process of QEMU's user, to whom the RAM is given."""
    (file,) = Handed.there["harness-1"].values()
    history = arrival.arrive(plan, journal, "thaw")
    about = os.fstat(file)
    assert (about.st_uid, about.st_mode & 0o777) == (65534, 0o600)
    (guest,) = history.guests.values()
    assert guest.parkable.ram == {"pc.ram": ram_links.identity(about)}
    assert ram_links.held(Path(plan.guests[0].keep), guest.parkable.ram)
    assert [one.name for one in history.held] == [GUEST.name]
    assert fold(journal.read()).arrived.problem == ""
    assert Handed.did == ["finish", "close"]


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"session": "another"}, "was not handed the session another"),
        ({"preserved": (Preserved(GUEST.uuid, "pc.ram", 4, 8192, 0, 0),)}, "No such file"),
        ({"preserved": (Preserved(GUEST.uuid, "pc.ram", 3, 4096, 0, 0),)}, "8192 bytes, not 4096"),
    ],
)
def test_what_was_not_handed_over_brings_nobody_back(plan, journal, change, why):
    """As after a reset of the machine, which keeps no session."""
    history = arrival.arrive(replace(plan, **change), journal, "recover")
    assert why in history.arrived.problem
    (guest,) = history.guests.values()
    assert (guest.custody, history.held) == (Custody.ENDED, ())
    assert not fold(journal.read()).held


def test_the_folder_is_in_memory_again_unless_it_is(plan, monkeypatch):
    """Before systemd nothing is mounted there."""
    mounted: list[tuple[object, ...]] = []
    monkeypatch.setattr(early, "mount", lambda *words: mounted.append(words))
    plan = replace(plan, ram_options="mode=0755,size=8192")
    arrival.mount_region(plan, None)
    monkeypatch.setattr(Path, "is_mount", lambda path: True)
    arrival.mount_region(plan, None)
    folder = Path(plan.ram_folder)
    assert mounted == [("tmpfs", folder, "tmpfs", "mode=0755,size=8192")]
