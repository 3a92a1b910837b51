"""Kind ``qemu`` as a whole maintenance on a host in memory: planned, applied, judged, refused."""

from __future__ import annotations

from dataclasses import replace

import pytest

from harness.api import Backend
from harness.cli.doctor import examine
from harness.cli.doctor_qemu import examine_qemu
from harness.cli.finding import Finding, Level
from harness.core.errors import HypervisorError, PlanError
from harness.core.identity import boot_id
from harness.core.timebase import SYSTEM_CLOCK, Deadline
from harness.host import ram_links
from harness.host.parking import Berth
from harness.maintenance.recovery.record import Action
from harness.results.journal import FILE_NAME
from harness.results.unfinished import dead_runs
from harness.testing.parking import eligible
from harness.updates.protocol import Site
from harness.updates.qemu.update import QemuUpdate
from tests.maintenance.conftest import House, of
from tests.maintenance.recovery.test_recover import Killed, finish
from tests.maintenance.updates import raising

CHECKS = ["pause-window", "same-boot", "same-process", "libvirt-events", "qemu-version"]
CHECKS += ["ram-inode"]


def maintain(house: House, update: QemuUpdate, **changes):
    return house.maintain(update=update, budget_s=12.0, checks__enable=CHECKS, spread=1, **changes)


def test_all_guests_are_in_the_new_qemu_and_every_promise_is_judged(replaced):
    """One process for another, with the very RAM; nothing is kept in the end."""
    house, update = replaced
    done = maintain(house, update)
    assert done.record.exit_code == 0, done.record.problems
    assert house.host.parking.runs_new == {guest.name for guest in house.guests}
    for guest in house.guests:
        verdicts = {one.name: one.outcome for one in of(done.record, guest.name).checks}
        assert verdicts == dict.fromkeys(CHECKS, "pass")
    assert sorted(set(house.host.parking.settled)) == sorted(house.host.parking.runs_new)


def test_what_else_is_different_afterwards_is_in_the_record(replaced):
    """Of the guest that it is true of."""
    house, update = replaced
    first, *others = (guest.name for guest in house.guests)
    look = house.host.parking.looks[first]
    said = {"tainted": ("tainted: custom monitor control commands issued",)}
    house.host.before["unpark new", first] = lambda: look.update(said)
    done = maintain(house, update)
    told = {name: of(done.record, name).facts.get("qemu_changes") for name in (first, *others)}
    assert told[first] == "libvirt says: tainted: custom monitor control commands issued"
    assert not any(told[name] for name in others)


def test_a_guest_that_the_new_qemu_refuses_fails_the_run_and_runs(replaced):
    """In its old QEMU; the others are in the new one."""
    house, update = replaced

    def no() -> None:
        raise HypervisorError("machine type not supported", operation="unparking")

    first, *others = (guest.name for guest in house.guests)
    house.host.before["unpark new", first] = no
    done = maintain(house, update)
    assert done.record.exit_code == 3
    assert "it is in its old QEMU again" in done.record.update_domains[0].problems[0]
    assert house.host.parking.runs_new == set(others)
    verdicts = {one.name: one.outcome for one in of(done.record, first).checks}
    assert verdicts["qemu-version"] == "fail"
    assert verdicts["ram-inode"] == "pass"


def test_a_guest_that_stays_parked_is_said_to_be_paused(replaced):
    """Exit 4, and `harness recover` has something to do."""
    house, update = replaced
    first = house.guests[0].name

    def no() -> None:
        raise HypervisorError("cannot run", operation="unparking")

    house.host.before.update({(f"unpark {which}", first): no for which in ("new", "old")})
    done = maintain(house, update, resume_patience_s=0.5)
    assert done.record.exit_code == 4
    assert of(done.record, first).still_paused
    assert house.host.parking.berths[first] is Berth.PARKED


def test_what_was_kept_for_a_guest_that_runs_is_removed_by_recover(replaced):
    """The run died before its first pause."""
    house, update = replaced
    first = house.guests[0].name
    house.host.before["pause", first] = raising(Killed())
    house.host.before["settle", first] = raising(HypervisorError("busy", operation="settling"))
    with pytest.raises(Killed):
        maintain(house, update)
    house.host.before.clear()
    (folder,) = dead_runs(house.state_dir)
    assert first not in house.host.parking.settled
    for _ in range(2):  # the second time there is nothing left to do
        finish(house, folder)
        assert house.host.parking.settled.count(first) == 1


def test_guests_that_were_parked_when_the_host_was_booted_have_ended(replaced):
    """Nothing is started, nothing is claimed of their RAM, and what was kept is removed."""
    house, update = replaced
    names = [guest.name for guest in house.guests]
    for name in names:
        for which in ("new", "old"):
            house.host.before[f"unpark {which}", name] = raising(Killed())
    with pytest.raises(Killed):
        maintain(house, update)
    house.host.before.clear()
    house.host.parking.berths = dict.fromkeys(names, Berth.LOST)
    house.host.parking.settled.clear()
    (folder,) = dead_runs(house.state_dir)
    journal = folder.path / FILE_NAME
    journal.write_text(journal.read_text().replace(boot_id(), "another-boot"))
    house.host.calls.clear()
    recovered = finish(house, folder)
    assert [guest.action for guest in recovered.guests] == [Action.ENDED] * len(names)
    assert all("the host was booted while it was parked" in one.why for one in recovered.guests)
    assert sorted(house.host.parking.settled) == sorted(names)
    assert not [what for what, _ in house.host.calls if what.startswith(("unpark", "resume"))]
    assert not list(dead_runs(house.state_dir))


def test_more_guests_at_once_than_the_budget_bears_are_refused(replaced):
    """By what they take together, and what is kept to bring them back."""
    house, update = replaced
    with pytest.raises(PlanError, match=r"of \d guests at once is expected to take 0\.2 s"):
        house.maintain(update=update, budget_s=3.0, spread=1)
    assert {what for what, _ in house.host.calls} <= {"look", "state"}


def test_guests_that_do_not_fit_at_once_are_replaced_in_parts(replaced):
    """The refusal says how many do; each part is paused by itself, and keeps its own reserve."""
    house, update = replaced
    update = QemuUpdate(update._settings, Site(), cores=1)
    names = [guest.name for guest in house.guests]
    budget_s = update.needs(1).expected_s + update.needs(1).reserve_s
    with pytest.raises(PlanError) as refused:
        house.maintain(update=update, budget_s=budget_s, spread=1)
    assert "--at-most 1" in (refused.value.hint or "")
    done = house.maintain(
        update=update, budget_s=budget_s, checks__enable=CHECKS, spread=1, at_most=1
    )
    assert done.record.exit_code == 0, done.record.problems
    assert [len(one.guests) for one in done.record.update_domains] == [1] * len(names)
    assert house.host.parking.runs_new == set(names)
    calls = [(what, name) for what, name in house.host.calls if what in ("pause", "resume")]
    assert [what for what, _ in calls] == ["pause", "resume"] * len(names)


def test_doctor_says_whose_qemu_can_be_replaced(house):
    """And what fixes the others; a problem only where it is asked for."""
    house = house()
    house.host.parking.looks[house.guests[0].name] = {"backings": ()}
    backend = Backend(lambda config: _open(house), house.connector, SYSTEM_CLOCK)
    names = [guest.name for guest in house.guests]

    def found(kind: str) -> dict[str, Finding]:
        config = house.config(update__kind=kind, update__duration_s=None)
        config = config.model_copy(update={"guest": sections(names)})
        every = {one.name: one for one in examine(config, house.state_dir, backend)}
        return {name: one for name, one in every.items() if "qemu" in name.lower()}

    [(name, line)] = found("stand-in").items()
    assert (name, line.level) == ("update kind qemu", Level.OK)
    asked = found("qemu")
    bad = asked[f"QEMU of {names[0]}"]
    assert (bad.level, "private memory" in bad.detail) == (Level.PROBLEM, True)
    assert "<source type='file'/>" in bad.fix
    assert all(asked[f"QEMU of {name}"].level is Level.OK for name in names[1:])


def test_doctor_finds_ram_that_was_kept_and_forgotten(house, tmp_path, monkeypatch):
    """With its size, and what to do, also where no guest runs that names the folder."""
    house = house()
    first, second = house.guests
    instance = tmp_path / "ram" / "1-x"
    kept = ram_links.keep_folder(instance.parent, "uuid-of-another")
    ram_links.make_keep(kept)
    (kept / "ram/pc.ram").write_bytes(b"x" * (2 << 20))
    backing = replace(eligible(first.name, "u").backings[0], path=str(instance / "pc.ram"))
    house.host.parking.looks[first.name] = {"backings": (backing,)}

    def no() -> None:
        raise HypervisorError("its monitor does not answer", operation="looking")

    house.host.before["look", second.name] = no
    guests = house.host.guests(Deadline.after(5))
    found = list(examine_qemu(guests, house.host, Deadline.after(5), wanted=True))
    assert [(one.name, one.level) for one in found] == [
        (f"QEMU of {first.name}", Level.OK),
        (f"QEMU of {second.name}", Level.PROBLEM),
        ("kept RAM", Level.WARNING),
    ]
    assert "2 MiB are kept for guest uuid-of-another" in found[2].detail
    quiet = examine_qemu(guests, house.host, Deadline.after(5), wanted=False)
    assert [one.name for one in quiet] == ["update kind qemu", "kept RAM"]
    monkeypatch.setattr("harness.cli.doctor_qemu.backing_folder", lambda: instance.parent)
    nobody_runs = examine_qemu([], house.host, Deadline.after(5), wanted=False)
    assert [one.name for one in nobody_runs] == ["kept RAM"]


def test_doctor_says_in_one_line_whose_qemu_could_be_replaced_if_nobody_asked(house):
    """Counted by reason, without a fix: nothing is wrong. Where it is configured: a line each."""
    house = house("web1", "web2", "web3")
    for name in ("web1", "web2"):
        house.host.parking.looks[name] = {"backings": ()}
    guests = house.host.guests(Deadline.after(5))
    [line] = examine_qemu(guests, house.host, Deadline.after(5), wanted=False)
    assert (line.level, line.fix) == (Level.OK, "")
    assert "the QEMU of 1 of 3 running guests; not of others: its RAM is private" in line.detail
    assert "(2)" in line.detail
    assert [name for name, reasons in line.facts.items() if reasons] == ["web1", "web2"]
    each = list(examine_qemu(guests, house.host, Deadline.after(5), wanted=True))
    assert [one.level for one in each] == [Level.PROBLEM, Level.PROBLEM, Level.OK]
    assert all(one.fix for one in each[:2])


def sections(names):
    from harness.core.settings import GuestSection

    return tuple(GuestSection(name=name) for name in names)


def _open(house):
    from contextlib import nullcontext

    return nullcontext(house.host)
