"""What stops a rollout, and what does not: the playbook on hosts whose `harness` is a stand-in.

With the oldest ansible-core that is supported and with the newest, over a stand-in for `ssh`, so
that a host can be lost at any moment.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.fleet.playbooks import HARNESS

pytestmark = pytest.mark.timeout(600)


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

    stopped = fleet.play(doctor=True)

    assert stopped.code != 0
    assert fleet.begun == []
    assert "h2: not reached" in stopped.out


def test_a_host_that_is_absent_stops_all_or_is_left_out(fleet):
    """It comes later, with one that is new in the inventory, in waves after those that are kept."""
    fleet.change("h1", down="")
    database = f"sqlite:///{fleet.folder.parent}/fleet.db"

    stopped = fleet.play(database=database)
    assert stopped.code != 0
    assert fleet.begun == []
    assert "no host was touched; h1: not reached" in stopped.out

    skipped = fleet.play(database=database, absent="skip")
    assert skipped.code == 0
    assert fleet.begun == ["h2", "h3"]
    assert "not reached and left out: h1" in skipped.out

    (fleet.folder / "h1" / "down").unlink()
    fleet.host("h4", "mail")
    later = fleet.play(database=database)
    assert later.code == 0
    known = [HARNESS, "fleet", "plan", "--rollout=r1", f"--database={database}", "--json"]
    kept = json.loads(subprocess.run(known, check=True, capture_output=True).stdout)
    assert [wave["hosts"] for wave in kept["waves"]] == [["h2"], ["h3"], ["h1", "h4"]]
    here = json.loads((fleet.folder.parent / "waves" / "r1.json").read_text())
    assert here["waves"] == kept["waves"]
    assert fleet.begun[:2] == ["h2", "h3"]
    assert sorted(fleet.begun[2:]) == ["h1", "h4"]


@pytest.mark.parametrize("engine", ["newest"], indirect=True)
def test_hosts_that_two_controllers_add_have_waves_of_one_numbering(fleet):
    """The fleet's database numbers them, also where the second names it no more."""
    folder = fleet.folder.parent
    database = f"sqlite:///{folder}/fleet.db"
    assert fleet.play(database=database).code == 0
    mine = folder / "waves" / "r1.json"
    (folder / "others").mkdir()
    shutil.copy(mine, folder / "others")

    fleet.host("h4", "mail")
    assert fleet.play().code == 0  # the waves that are kept say which database has them
    assert numbered(mine) == {1: ["h2"], 2: ["h1", "h3"], 3: ["h4"]}

    del fleet.controller.inventory["hosts"]["h4"]
    fleet.host("h5", "mail")
    fleet.controller.more["ANSIBLE_CALLBACKS_ENABLED"] = "harness_kvm.fleet.waves"
    fleet.change("h5", behaves="fail")
    other = fleet.play(waves_folder=str(folder / "others"), abort_after=1)
    assert other.code != 0  # the end asks the hosts of all waves: the third is not the last
    assert numbered(folder / "others" / "r1.json") == {1: ["h2"], 2: ["h1", "h3"], 4: ["h5"]}
    assert "wave 4/4, h5: fail" in other.out

    known = [HARNESS, "fleet", "plan", "--rollout=r1", f"--database={database}", "--json"]
    kept = json.loads(subprocess.run(known, check=True, capture_output=True).stdout)
    assert {wave["number"]: wave["hosts"] for wave in kept["waves"]} == {
        **numbered(mine),
        4: ["h5"],
    }


def numbered(file: Path) -> dict[int, list[str]]:
    """Return the waves that a controller keeps in a file."""
    return {wave["number"]: wave["hosts"] for wave in json.loads(file.read_text())["waves"]}


@pytest.mark.parametrize("engine", ["newest"], indirect=True)
def test_a_rollout_that_began_without_a_database_has_no_waves_in_one(fleet):
    """Late hosts alone would look as if they were all of it."""
    database = f"sqlite:///{fleet.folder.parent}/fleet.db"
    assert fleet.play().code == 0
    fleet.host("h4", "mail")

    assert fleet.play(database=database).code == 0

    known = [HARNESS, "fleet", "plan", "--rollout=r1", f"--database={database}", "--json"]
    done = subprocess.run(known, capture_output=True, text=True)
    assert "rollout r1 has no waves yet" in json.loads(done.stdout)["error"]["message"]
    assert numbered(fleet.folder.parent / "waves" / "r1.json")[3] == ["h4"]


def test_a_host_that_refuses_or_is_sick_stops_all_before_one_is_touched(fleet):
    fleet.change("h3", refuses="refused")
    fleet.change("h1", sick="libvirtd is not running")

    stopped = fleet.play(doctor=True)

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


def test_a_window_that_closes_in_a_wave_lets_it_end_and_no_other_begin(fleet):
    """The canary's update is when time passes."""
    end = fleet.folder.parent / "end"
    end.write_text("2999-01-01T00:00+00:00")
    fleet.change("h2", closes=str(end))

    over = fleet.play(not_after=f"{{{{ lookup('ansible.builtin.file', '{end}') }}}}")

    assert over.code != 0
    assert fleet.order == ["begin h2", "end h2"]
    assert "stops before wave 2; it is past 2020-01-01T00:00+00:00" in over.out


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
