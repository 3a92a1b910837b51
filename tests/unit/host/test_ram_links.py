"""Hard links that keep RAM, on a file system of the test: the inode is what counts."""

from __future__ import annotations

import errno
import os
from functools import partial
from pathlib import Path

import pytest

from harness.core.errors import InfrastructureError
from harness.core.fanout import errors, fan_out
from harness.core.timebase import Deadline
from harness.host import ram_links


@pytest.fixture
def ram(tmp_path):
    """libvirt's folder with one instance in it, as a guest that runs has it."""
    folder = tmp_path / "ram"
    instance = folder / "7-web1"
    instance.mkdir(parents=True)
    (instance / "pc.ram").write_bytes(b"RAM")
    return folder


def files(instance: Path) -> dict[str, str]:
    return {one.name: ram_links.identity(one.stat()) for one in instance.iterdir()}


@pytest.fixture
def kept(ram):
    """The RAM of that instance, kept; and its identity."""
    keep = ram_links.keep_folder(ram, "uuid")
    ram_links.make_keep(keep)
    identity = files(ram / "7-web1")
    ram_links.hold(keep, ram / "7-web1", identity)
    return keep, identity


def gone(ram: Path) -> None:
    """What libvirt does when an instance ends."""
    for file in (ram / "7-web1").iterdir():
        file.unlink()
    (ram / "7-web1").rmdir()


def test_the_ram_outlives_the_folder_of_its_instance(ram, kept):
    """By a link: the very file, not a copy."""
    keep, identity = kept
    gone(ram)
    assert ram_links.held(keep, identity)
    assert (keep / "ram/pc.ram").read_bytes() == b"RAM"


def test_it_is_offered_under_every_id_and_withdrawn_from_all_but_one(ram, kept):
    """What the next instance opens is the very file."""
    keep, identity = kept
    gone(ram)
    ram_links.offer(keep, ram, "web1", range(1, 20), identity)
    assert files(ram / "12-web1") == identity
    assert (ram / "12-web1").stat().st_mode & 0o777 == 0o700
    ram_links.withdraw(ram, "web1", identity, "12-web1")
    assert sorted(one.name for one in ram.iterdir()) == ["12-web1", ram_links.KEEP]


def test_an_instance_that_lives_is_offered_nothing(ram, kept):
    """Its folder is there already, with RAM of its own."""
    keep, identity = kept
    gone(ram)
    other = ram / "3-web1"
    other.mkdir()
    (other / "pc.ram").write_bytes(b"another guest")
    ram_links.offer(keep, ram, "web1", range(1, 5), identity)
    ram_links.withdraw(ram, "web1", identity)
    assert (other / "pc.ram").read_bytes() == b"another guest"
    assert sorted(one.name for one in ram.iterdir()) == ["3-web1", ram_links.KEEP]


@pytest.mark.parametrize(("holds", "left"), [(True, {"9-web1"}), (False, set())])
def test_an_offer_by_a_process_that_has_ended_is_withdrawn(ram, kept, holds, left):
    """A QEMU that opens such a link tries for ever; what another process holds is left alone."""
    _, identity = kept
    place = ram / "9-web1"
    place.mkdir()
    with (ram / "another").open("w") as file:
        number = file.fileno() if holds else 4_000_000
        (place / "pc.ram").symlink_to(f"/proc/{os.getpid()}/fd/{number}")
        ram_links.withdraw(ram, "web1", identity, "7-web1")
    assert {one.name for one in ram.iterdir()} - {"7-web1", "another", ram_links.KEEP} == left


def test_folders_of_other_guests_are_never_withdrawn(ram, kept):
    """Nor what only looks like a folder of an instance."""
    keep, identity = kept
    for name in ("8-web2", "x-web1", "web1"):
        (ram / name).mkdir()
        os.link(keep / "ram/pc.ram", ram / name / "pc.ram")
    ram_links.withdraw(ram, "web1", identity)
    assert {one.name for one in ram.iterdir()} == {"8-web2", "x-web1", "web1", ram_links.KEEP}


def test_other_ram_is_never_kept_for_it(ram):
    """The file was replaced since it was looked at."""
    keep = ram_links.keep_folder(ram, "uuid")
    ram_links.make_keep(keep)
    with pytest.raises(InfrastructureError, match=r"pc\.ram is .*, not the guest's RAM 0:0"):
        ram_links.hold(keep, ram / "7-web1", {"pc.ram": "0:0"})
    assert not ram_links.held(keep, {"pc.ram": "0:0"})


def test_what_is_kept_is_kept_again_after_an_attempt(ram, kept):
    """The link is there already."""
    keep, identity = kept
    ram_links.hold(keep, ram / "7-web1", identity)
    assert ram_links.held(keep, identity)


def test_no_symbolic_link_is_followed(ram, kept, tmp_path):
    """The folder around belongs to QEMU's user, who may put anything into it."""
    keep, identity = kept
    gone(ram)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (ram / "4-web1").symlink_to(elsewhere)
    ram_links.offer(keep, ram, "web1", range(4, 6), identity)
    ram_links.withdraw(ram, "web1", identity)
    assert list(elsewhere.iterdir()) == []
    with pytest.raises(InfrastructureError):
        ram_links.hold(keep, ram / "4-web1", identity)


def test_a_folder_of_somebody_else_keeps_nothing(ram):
    """Not one that others may look into."""
    (ram / ram_links.KEEP).mkdir(mode=0o755)
    (ram / ram_links.KEEP).chmod(0o755)
    with pytest.raises(InfrastructureError, match="not private"):
        ram_links.make_keep(ram_links.keep_folder(ram, "uuid"))


def test_a_guest_is_kept_once(ram, kept):
    """What an earlier run left is not overwritten."""
    with pytest.raises(InfrastructureError, match="exists"):
        ram_links.make_keep(kept[0])


def test_what_was_kept_goes_without_a_trace(ram, kept):
    """Again and again."""
    for _ in range(2):
        ram_links.remove_keep(kept[0])
    assert [one.name for one in ram.iterdir()] == ["7-web1"]


def test_forgotten_ram_is_found_with_its_size(ram, kept):
    """By the guest's UUID; nothing where nothing is kept."""
    ((uuid, size),) = ram_links.forgotten(ram)
    assert uuid == "uuid"
    assert size > 0
    assert list(ram_links.forgotten(ram / "7-web1")) == []


def test_one_guests_folder_can_be_made_while_anothers_goes(ram):
    """All guests of an update domain at once: the folder around theirs goes with the last."""

    def again_and_again(uuid: str) -> None:
        keep = ram_links.keep_folder(ram, uuid)
        for _ in range(300):
            ram_links.make_keep(keep)
            ram_links.remove_keep(keep)

    calls = {uuid: partial(again_and_again, uuid) for uuid in ("one", "other", "third")}
    answers = fan_out(calls, Deadline.after(60), what="making and removing")
    assert errors(answers) == {}


def test_what_cannot_be_looked_at_is_not_called_gone(ram, kept, monkeypatch):
    """RAM that is not held is given up; a full table of files is no reason for that."""
    keep, identity = kept

    def no(*arguments, **options):
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(os, "open", no)
    with pytest.raises(InfrastructureError, match="Too many open files"):
        ram_links.held(keep, identity)
    with pytest.raises(InfrastructureError, match="Too many open files"):
        ram_links.untouched(ram, "web1", (7,), identity)


def test_an_offer_is_untouched_until_an_instance_has_ended_in_it(ram, kept):
    """And only by the very RAM."""
    keep, identity = kept
    gone(ram)
    ram_links.offer(keep, ram, "web1", range(1, 9), identity)
    assert ram_links.untouched(ram, "web1", range(1, 9), identity)
    assert not ram_links.untouched(ram, "web1", range(1, 9), {"pc.ram": "0:0"})
    gone(ram)
    assert not ram_links.untouched(ram, "web1", range(1, 9), identity)
    assert ram_links.untouched(ram, "web1", range(1, 7), identity)


def test_ram_is_kept_again_from_an_offer_and_from_nothing_else(ram, kept):
    """Not from a folder of that name with other RAM in it."""
    keep, identity = kept
    ram_links.remove_keep(keep)
    assert not ram_links.keep_again(keep, ram, "web1", {"pc.ram": "0:0"})
    assert not ram_links.keep_again(keep, ram, "web2", identity)
    assert ram_links.keep_again(keep, ram, "web1", identity)
    assert ram_links.held(keep, identity)
