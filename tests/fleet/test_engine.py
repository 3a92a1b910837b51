"""What stops a rollout, and what does not: the playbook on hosts whose `harness` is a stand-in.

With the oldest ansible-core that is supported and with the newest, over a stand-in for `ssh`, so
that a host can be lost at any moment.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from harness.results.answer import schema_of_answer
from tests.fleet import stub_harness
from tests.fleet.playbooks import HARNESS, VARIABLES, Controller, Played

pytestmark = pytest.mark.timeout(600)
STUB_SSH = Path(__file__).with_name("stub_ssh")


@dataclass
class Fleet:
    """Hosts that are folders."""

    controller: Controller
    folder: Path

    def host(self, name: str, sets: str, **files: str) -> None:
        """Add a host; ``sets`` are the availability sets of its guests."""
        here = self.folder / name
        here.mkdir(parents=True)
        shutil.copy(stub_harness.__file__, here / "harness")
        for file, text in {"sets": sets, **files}.items():
            (here / file).write_text(text)
        self.controller.inventory["hosts"][name] = {}

    def change(self, name: str, **files: str) -> None:
        for file, text in files.items():
            (self.folder / name / file).write_text(text)

    def play(self, rollout: str = "r1", *options: str, **more) -> Played:
        return self.controller.play(rollout, *options, **more)

    @property
    def order(self) -> list[str]:
        """When each run began and ended."""
        file = self.folder / "order"
        return file.read_text().splitlines() if file.exists() else []

    @property
    def begun(self) -> list[str]:
        return [line.split()[1] for line in self.order if line.startswith("begin")]


@pytest.fixture
def fleet(engine, tmp_path) -> Fleet:
    """Three hosts: h1 and h2 share a set, h3 has one of its own; h2 is the canary."""
    hosts = tmp_path / "hosts"
    inventory = {
        "hosts": {},
        "vars": {
            **VARIABLES,
            "ansible_connection": "ssh",
            "ansible_ssh_executable": str(STUB_SSH),
            "rolling_maintenance_executable": f"{hosts}/{{{{ inventory_hostname }}}}/harness",
            "rolling_maintenance_waves_folder": str(tmp_path / "waves"),
            "rolling_maintenance_canaries": ["h2"],
        },
    }
    found = Fleet(Controller(engine, tmp_path, inventory, more={"STUB_HOSTS": str(hosts)}), hosts)
    found.host("h1", "web")
    found.host("h2", "web db")
    found.host("h3", "mail")
    return found


def test_the_stand_in_keeps_to_the_contract():
    for outcome in stub_harness.CODES:
        said = stub_harness.answer("r1", outcome)
        names = schema_of_answer()["properties"]
        assert set(said) == set(names)
        assert outcome in schema_of_answer()["$defs"]["Ending"]["enum"]


def test_a_canary_alone_then_a_wave_at_once_and_the_same_again_changes_nothing(fleet):
    fleet.change("h1", waits="h3")
    fleet.change("h3", waits="h1")

    database = f"sqlite:///{fleet.folder.parent}/fleet.db"

    first = fleet.play(database=database)

    assert first.code == 0
    assert fleet.order[:2] == ["begin h2", "end h2"]
    assert {*fleet.order[2:4]} == {"begin h1", "begin h3"}  # each waited for the other
    assert [first.recap(host, "changed") for host in ("h1", "h2", "h3")] >= [1, 1, 1]

    known = [HARNESS, "fleet", "plan", "--rollout=r1", f"--database={database}", "--json"]
    kept = json.loads(subprocess.run(known, check=True, capture_output=True).stdout)
    assert [wave["hosts"] for wave in kept["waves"]] == [["h2"], ["h1", "h3"]]

    again = fleet.play(database=database)

    assert again.code == 0
    assert sorted(fleet.begun) == ["h1", "h2", "h3"]
    assert [again.recap(host, "changed") for host in ("h1", "h2", "h3")] == [0, 0, 0]
    assert "3 of 3 hosts ended well" in again.out


def test_check_mode_tells_who_would_be_paused_with_whom_and_begins_nothing(fleet):
    told = fleet.play("r1", "--check", "--diff")

    assert told.code == 0
    assert fleet.begun == []
    assert "+domain h2-1: pause h2-1" in told.out
    assert "+domain h2-2: pause h2-2" in told.out
    assert not (fleet.folder.parent / "waves").exists()


@pytest.mark.parametrize("outcome", ["fail", "not-now", "nonsense"])
def test_a_canary_that_does_not_end_well_stops_all_others(fleet, outcome):
    """A stand-in that speaks nonsense does so from the plan on: no host is touched."""
    fleet.change("h2", behaves=outcome)

    stopped = fleet.play()

    assert stopped.code != 0
    assert fleet.begun == ([] if outcome == "nonsense" else ["h2"])
    said = {"fail": "h2: fail: h2-1: clock: 5 s slow", "nonsense": "h2: plan --json: no JSON"}
    assert said.get(outcome, f"h2: {outcome}: h2 says {outcome} (hint: a hint)") in stopped.out


def test_a_host_that_is_lost_in_its_wave_stops_the_next(fleet):
    """Ansible itself would go on."""
    fleet.change("h2", when_looked_at="cut off")

    stopped = fleet.play()

    assert stopped.code != 0
    assert fleet.begun == []
    assert "h2: not reached" in stopped.out


def test_a_host_that_is_absent_stops_all_or_is_left_out(fleet):
    fleet.change("h1", down="")

    stopped = fleet.play()
    assert stopped.code != 0
    assert fleet.begun == []
    assert "no host was touched; h1: not reached" in stopped.out

    skipped = fleet.play(absent="skip")
    assert skipped.code == 0
    assert fleet.begun == ["h2", "h3"]
    assert "not reached and left out: h1" in skipped.out

    (fleet.folder / "h1" / "down").unlink()
    fleet.host("h4", "mail")
    later = fleet.play()
    assert later.code == 0
    assert fleet.begun[:2] == ["h2", "h3"]
    assert sorted(fleet.begun[2:]) == ["h1", "h4"]


def test_a_host_that_refuses_or_is_sick_stops_all_before_one_is_touched(fleet):
    fleet.change("h3", refuses="refused")
    fleet.change("h1", sick="libvirtd is not running")

    stopped = fleet.play()

    assert stopped.code != 0
    assert fleet.begun == []
    assert "h3: h3 says refused (hint: a hint)" in stopped.out
    assert "h1: libvirt: libvirtd is not running (hint: start it)" in stopped.out


def test_so_many_hosts_may_fail_over_the_whole_rollout(fleet):
    fleet.change("h2", behaves="fail")

    first = fleet.play(abort_after=1)

    assert first.code != 0  # the rollout is not complete
    assert sorted(fleet.begun) == ["h1", "h2", "h3"]
    assert "2 of 3 hosts ended well; h2: fail" in first.out


def test_hosts_that_are_done_and_need_nothing_now_keep_their_waves(fleet):
    fleet.change("h1", behaves="not-now")
    assert fleet.play().code != 0
    assert sorted(fleet.begun) == ["h1", "h2", "h3"]
    kept = (fleet.folder.parent / "waves" / "r1.json").read_text()

    fleet.change("h1", behaves="pass")
    fleet.change("h2", refuses="not-needed")
    assert fleet.play().code == 0

    assert (fleet.folder.parent / "waves" / "r1.json").read_text() == kept
    assert [wave["hosts"] for wave in json.loads(kept)["waves"]] == [["h2"], ["h1", "h3"]]
    assert fleet.begun[3:] == ["h1"]


def test_hooks_are_run_for_hosts_that_are_not_done_and_a_gate_of_the_users_own_stops(fleet):
    tasks = {}
    for name in ("drain", "undrain"):
        file = tasks[f"{name}_tasks"] = fleet.folder.parent / f"{name}.yml"
        line = f"{name} {{{{ inventory_hostname }}}}"
        command = ["sh", "-c", f"echo {line} >> {fleet.folder}/order"]
        file.write_text(json.dumps([{"name": name, "ansible.builtin.command": {"argv": command}}]))
    gate = tasks["gate_tasks"] = fleet.folder.parent / "gate.yml"
    gate.write_text(
        json.dumps(
            [
                {
                    "name": "Ask the users",
                    "ansible.builtin.assert": {"that": "inventory_hostname != 'h2'"},
                }
            ]
        )
    )
    given = {name: str(file) for name, file in tasks.items()}

    stopped = fleet.play(**given)
    assert stopped.code != 0
    assert fleet.order == ["drain h2", "begin h2", "end h2", "undrain h2"]
    assert "h2: Ask the users: Assertion failed" in stopped.out

    gate.write_text("[]")
    fleet.change("h1", behaves="fail")
    assert fleet.play(**given).code != 0
    assert "drain h1" in fleet.order
    assert "undrain h1" not in fleet.order
    assert "undrain h3" in fleet.order
    assert fleet.order.count("drain h2") == 1


def test_a_window_that_closes_in_a_wave_lets_it_end_and_no_other_begin(fleet):
    """The canary's update is when time passes."""
    end = fleet.folder.parent / "end"
    end.write_text("2999-01-01T00:00+00:00")
    fleet.change("h2", closes=str(end))

    over = fleet.play(not_after=f"{{{{ lookup('ansible.builtin.file', '{end}') }}}}")

    assert over.code != 0
    assert fleet.order == ["begin h2", "end h2"]
    assert "stops before wave 2; it is past 2020-01-01T00:00+00:00" in over.out


def test_two_hosts_of_a_set_that_the_inventory_puts_into_one_wave_are_refused(fleet):
    for name in ("h1", "h2"):
        fleet.controller.inventory["hosts"][name]["harness_wave"] = 1

    refused = fleet.play()

    assert refused.code != 0
    assert fleet.begun == []
    assert "hosts h1 and h2 are both in wave 1 and both have guests of availability set web" in (
        refused.out
    )


def test_ansible_itself_goes_on_after_a_host_that_it_does_not_reach(fleet):
    """What the gates are for. Where this fails, Ansible has changed, and nothing here is broken."""
    fleet.change("h1", down="")
    play = {
        "hosts": "all",
        "gather_facts": False,
        "serial": 1,
        "any_errors_fatal": True,
        "max_fail_percentage": 0,
        "tasks": [{"name": "Touch it", "ansible.builtin.command": "echo touched"}],
    }
    file = fleet.folder.parent / "plain.yml"
    file.write_text(json.dumps([play]))

    went_on = fleet.play(playbook=str(file))

    assert went_on.recap("h1", "unreachable") == 1
    assert went_on.recap("h3", "changed") == 1
