"""``[[update]]`` more than once, as whole maintenances on a host in memory."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest

from harness import api
from harness.core.errors import ConfigError, HypervisorError, PlanError
from harness.core.settings import Scope
from harness.core.timebase import Deadline
from harness.results.folder import all_runs
from harness.testing.parking import NEW_VERSION, OLD_VERSION
from harness.updates.chain import chained
from harness.updates.command import CommandSettings, CommandUpdate
from harness.updates.expected import learn
from harness.updates.hold import HoldSettings
from harness.updates.protocol import Site
from harness.updates.qemu.settings import QemuSettings
from harness.updates.qemu.update import QemuUpdate
from tests.maintenance.conftest import House, events, of, program
from tests.maintenance.test_api import backend
from tests.maintenance.test_qemu import CHECKS, maintain


class Commands:
    """Updates of kind command that write down, in a file, that they were applied or taken back."""

    def __init__(self, folder) -> None:
        self._file = folder / "told"
        self._script = folder / "tell.sh"
        self._script.write_text(f'#!/bin/sh\necho "$@" >> {self._file}\n[ "$1" != fail ]\n')
        self._script.chmod(0o755)

    def section(self, name: str, scope: Scope, *, fails: bool = False, **more) -> CommandSettings:
        """One update; ``fails``: its command ends with status 1."""
        said = str(self._script)
        return CommandSettings(
            command=(said, "fail" if fails else "apply", name),
            verify=(said, "verify", name),
            rollback=(said, "rollback", name),
            scope=scope,
            expected_s=0.1,
            **more,
        )

    @property
    def told(self) -> list[str]:
        """What was done, in order."""
        return self._file.read_text().splitlines() if self._file.exists() else []


@pytest.fixture
def commands(tmp_path) -> Commands:
    return Commands(tmp_path)


def asked(ours: House, *updates):
    """The configuration of ``ours`` with these updates."""
    return ours.config(spread=1).only(updates)


def carry_out(ours: House, config, **more):
    return api.maintain(
        config, ["web1", "web2"], state_dir=ours.state_dir, backend=backend(ours), **more
    )


def test_updates_of_one_scope_are_applied_in_one_pause(house, commands):
    """Both in order, both verified; the record names each, and what they are together."""
    ours = house()
    first = commands.section("a", Scope.HOST)
    second = commands.section("b", Scope.HOST)
    done = carry_out(ours, asked(ours, first, second))
    assert done.record.exit_code == 0, done.record.problems
    assert commands.told == ["apply a", "apply b", "verify a", "verify b"]
    assert events(done).count("pausing") == 1
    record = done.record
    assert (record.update.kind, record.update.command) == ("command+command", ())
    assert [one.command for one in record.updates] == [first.command, second.command]
    (domain,) = record.update_domains
    assert [(one.progress, one.returncode) for one in domain.updates] == [("applied", 0)] * 2
    parts_s = [one.duration_s for one in domain.updates]
    assert sum(parts_s) <= domain.update_s == record.update.duration_s
    assert record.follows is None
    assert [one.kind for one in done.folder.config().updates] == ["command", "command"]


def test_a_single_update_is_recorded_as_before_with_a_list_of_one(house, commands):
    ours = house()
    done = carry_out(ours, asked(ours, commands.section("a", Scope.GUEST)))
    assert done.record.updates == (done.record.update,)
    assert (done.record.update.kind, done.record.update_domains[0].updates) == ("command", ())


def test_the_first_is_rolled_back_when_the_second_fails(house, commands):
    """In reverse order, when everybody runs again; what was not begun is left alone."""
    ours = house()
    first, second, third = (commands.section(name, Scope.HOST, fails=name == "b") for name in "abc")
    done = carry_out(ours, asked(ours, first, second, third))
    assert done.record.exit_code == 3
    assert commands.told == ["apply a", "fail b", "rollback b", "rollback a"]
    (domain,) = done.record.update_domains
    assert [one.progress for one in domain.updates] == ["rolled back", "rolled back", "waiting"]
    assert "command: " in domain.problems[0]
    assert set(ours.running) >= {"web1", "web2"}


def test_updates_of_different_scopes_take_two_windows(house, commands):
    """Each is a run of its own; the second names the first, and is planned when that has passed."""
    ours = house()
    first = commands.section("a", Scope.HOST)
    second = commands.section("b", Scope.GUEST)
    before: list[str] = []
    done = carry_out(
        ours,
        asked(ours, first, second),
        between=lambda finished: before.append(finished.record.run_id),
    )
    assert done.record.exit_code == 0, done.record.problems
    assert commands.told == ["apply a", "verify a", "apply b", "verify b"]
    assert [one.update.scope for one in (done.record,)] == ["guest"]
    assert before == [done.record.follows]
    assert len(list(all_runs(ours.state_dir))) == 2


def test_the_second_window_is_left_alone_when_the_first_has_not_passed(house, commands):
    ours = house()
    first = commands.section("a", Scope.HOST, fails=True)
    done = carry_out(ours, asked(ours, first, commands.section("b", Scope.GUEST)))
    assert (done.record.exit_code, done.record.follows) == (3, None)
    assert commands.told == ["fail a", "rollback a"]
    assert len(list(all_runs(ours.state_dir))) == 1


def test_what_cannot_be_done_in_the_second_window_is_refused_before_the_first(house, commands):
    """Nothing is paused, and nothing applied."""
    ours = house()
    first = commands.section("a", Scope.HOST)
    second = CommandSettings(command=("/no/such/program",), scope=Scope.GUEST)
    for call in (carry_out, planned):
        with pytest.raises(ConfigError, match="/no/such/program"):
            call(ours, asked(ours, first, second))
        with pytest.raises(PlanError, match="kind hold lasts until"):
            call(ours, asked(ours, first, HoldSettings()))
    assert commands.told == ours.host.calls == []


def test_what_is_wrong_with_one_is_said_of_that_one(house, commands):
    ours = house()
    first = commands.section("a", Scope.HOST)
    with pytest.raises(ConfigError, match=r"^update\[2\].command: an update of kind command needs"):
        planned(ours, asked(ours, first, CommandSettings()))


def planned(ours: House, config) -> api.Planned:
    return api.plan(config, ["web1", "web2"], state_dir=ours.state_dir, backend=backend(ours))


def test_a_plan_has_all_windows(house, commands):
    """The first as ever; the later ones beside it."""
    ours = house()
    sections = [commands.section("a", Scope.HOST), commands.section("b", Scope.HOST)]
    found = planned(ours, asked(ours, *sections, commands.section("c", Scope.GUEST)))
    assert (found.update.kind, found.update.expected_s) == ("command+command", 0.2)
    (later,) = found.later
    assert (later.update.kind, later.update.scope) == ("command", "guest")
    assert planned(ours, asked(ours, sections[0])).later == ()


def test_what_several_take_together_must_fit_into_the_budget(house, commands):
    ours = house()
    slow = commands.section("a", Scope.HOST).model_copy(update={"expected_s": 1.4})
    assert planned(ours, asked(ours, slow))
    with pytest.raises(PlanError, match=r"command\+command.* is expected to take 2\.8 s"):
        planned(ours, asked(ours, slow, slow))


def test_how_long_one_of_several_took_is_learnt_of_that_one(house, commands):
    """Not what they took together."""
    ours = house()
    first = commands.section("a", Scope.HOST).model_copy(update={"expected_s": None})
    second = commands.section("b", Scope.HOST)
    config = asked(ours, second, first).model_copy(update={"budget_s": 30.0})
    done = carry_out(ours, config)
    learnt = learn(ours.state_dir, first)
    assert learnt is not None
    assert learnt.expected_s == done.record.update_domains[0].updates[1].duration_s
    assert learn(ours.state_dir, commands.section("c", Scope.HOST)) is None


def before_qemu(update, commands: Commands):
    """A command of the same scope, and then the replacement of QEMU, in one window."""
    return chained([CommandUpdate(commands.section("a", Scope.GUEST), Site()), update])


def test_a_command_and_the_replacement_of_qemu_share_a_window(replaced, commands):
    """Every promise of kind qemu is judged as without the command."""
    ours, update = replaced
    done = maintain(ours, before_qemu(update, commands))
    assert done.record.exit_code == 0, done.record.problems
    assert ours.host.parking.runs_new == {guest.name for guest in ours.guests}
    assert commands.told == ["apply a", "verify a"]
    assert done.record.update.kind == "command+qemu"
    assert len(of(done.record, "web1").checks) == len(CHECKS)


def test_a_command_is_rolled_back_when_the_new_qemu_refuses(replaced, commands):
    """The guest is in its old QEMU in the window; the command is taken back when everybody runs."""
    ours, update = replaced

    def no() -> None:
        raise HypervisorError("machine type not supported", operation="unparking")

    ours.host.before["unpark new", "web1"] = no
    done = maintain(ours, before_qemu(update, commands))
    assert done.record.exit_code == 3
    assert commands.told == ["apply a", "rollback a"]
    (domain,) = done.record.update_domains
    assert [one.progress for one in domain.updates] == ["rolled back", "rolled back"]
    assert "qemu: " in domain.problems[0]
    assert "it is in its old QEMU again" in domain.problems[0]
    assert set(ours.running) == {guest.name for guest in ours.guests}


@pytest.fixture
def foreseen(replaced):
    """Return what is refused, else warned of, of a QEMU installed over the one guests run in."""
    ours, _ = replaced
    own = ours.host.parking.look("uuid-web1", Deadline.after(5)).description
    emulator = Path(ElementTree.fromstring(own).findtext("devices/emulator", ""))

    def examine(*follows: str, **changes) -> tuple[str, ...]:
        settings = QemuSettings(emulator=emulator, **changes)
        update = QemuUpdate(settings, Site(follows=follows), cores=2)
        deadline = Deadline.after(10)
        update.examine(ours.host.guests(deadline), ours.host, deadline)
        return update.warnings

    return examine


def unpacked(folder, version: str):
    """A folder of unpacked packages with a QEMU of that version."""
    (folder / "usr").mkdir(parents=True)
    program(folder / "usr/bin", version)
    return folder


def test_qemu_is_planned_ahead_of_what_may_install_it(foreseen):
    """What it goes on in is not known yet; planned by itself, there would be nothing to do."""
    with pytest.raises(PlanError, match="it runs in QEMU .* already"):
        foreseen()
    told = foreseen("command")
    assert any("what is installed when its window comes" in line for line in told)


def test_the_way_back_is_not_what_packages_will_have_replaced(foreseen, tmp_path):
    """It has to be unpacked beforehand, in the version that guests run in."""
    with pytest.raises(PlanError, match=r"there is no way back .fix: .*update.previous"):
        foreseen("packages")
    with pytest.raises(PlanError, match="there is no way back"):
        foreseen("packages", previous=unpacked(tmp_path / "other", NEW_VERSION))
    assert foreseen("packages", previous=unpacked(tmp_path / "right", OLD_VERSION))
