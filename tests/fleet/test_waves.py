"""Canaries, waves, hooks, and the same again: the playbook on hosts whose `harness` is a stand-in.

With the oldest ansible-core that is supported and with the newest, where the engine matters.
"""

from __future__ import annotations

import json
import subprocess

import pytest

from harness.results.answer import schema_of_answer
from tests.fleet import stub_harness
from tests.fleet.playbooks import HARNESS

pytestmark = pytest.mark.timeout(600)
once = pytest.mark.parametrize("engine", ["newest"], indirect=True)


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


@once
def test_check_mode_tells_who_would_be_paused_with_whom_and_begins_nothing(fleet):
    fleet.change("h1", sets="web mail", together="yes")

    told = fleet.play("r1", "--check", "--diff")

    assert told.code == 0
    assert fleet.begun == []
    assert "+domain 0: pause h1-1, h1-2" in told.out
    assert [told.recap(host, "changed") for host in ("h2", "h3")] == [1, 1]
    calls = (fleet.folder / "h3" / "calls").read_text().splitlines()
    assert {line.split()[0] for line in calls} == {"plan"}
    assert "+domain h2-1: pause h2-1" in told.out
    assert "+domain h2-2: pause h2-2" in told.out
    assert not (fleet.folder.parent / "waves").exists()


@once
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


@once
def test_two_hosts_of_a_set_that_the_inventory_puts_into_one_wave_are_refused(fleet):
    for name in ("h1", "h2"):
        fleet.controller.inventory["hosts"][name]["harness_wave"] = 1

    refused = fleet.play()

    assert refused.code != 0
    assert fleet.begun == []
    assert "hosts h1 and h2 are both in wave 1 and both have guests of availability set web" in (
        refused.out
    )
