"""Knobs of the playbook, what it shows, and what of it is refused: on hosts that are stand-ins."""

from __future__ import annotations

import json

import pytest

from tests.fleet.playbooks import Played

pytestmark = pytest.mark.timeout(600)
once = pytest.mark.parametrize("engine", ["newest"], indirect=True)


def test_the_callback_shows_waves_and_pauses_beside_what_ansible_prints(fleet):
    fleet.controller.more["ANSIBLE_CALLBACKS_ENABLED"] = "harness_kvm.fleet.waves"
    fleet.change("h1", behaves="fail")

    foreseen = lines(fleet.play("r1", "--check"))
    stopped = fleet.play()

    assert foreseen[:4] == [
        "wave 1/2 (canary): h2",
        "wave 2/2: h1, h3",
        "wave 1/2 (canary), h2: begins",
        "wave 1/2 (canary), h2: would pause h2-1; h2-2",
    ]
    said = lines(stopped)
    assert said[2:5] == [
        "wave 1/2 (canary), h2: begins",
        "wave 1/2 (canary), h2: pass; longest pause 1.50 s (h2-1)",
        "wave 1/2 (canary) is over: 1 of 1 hosts well; longest pause 1.50 s (h2-1)",
    ]
    assert "wave 2/2, h1: fail: h1-1: clock: 5 s slow; longest pause 1.50 s (h1-1)" in said
    assert "wave 2/2 is over: 1 of 2 hosts well; longest pause 1.50 s (h3-1 on h3)" in said
    assert said[-1] == "2 of 3 hosts well; longest pause 1.50 s (h3-1 on h3)"
    assert "PLAY RECAP" in stopped.out
    assert stopped.recap("h3", "changed") == 1

    fleet.change("h1", behaves="pass", when_looked_at="cut off")
    cut_off = fleet.play("r2", canaries=["h1"], doctor=True)
    assert "wave 1/2 (canary), h1: not reached; a run that was begun goes on" in lines(cut_off)
    assert lines(cut_off)[-1] == "0 of 3 hosts well, 2 not begun"


def lines(played: Played) -> list[str]:
    """What the callback printed."""
    begins = "rollout: "
    return [one.removeprefix(begins) for one in played.out.splitlines() if one.startswith(begins)]


@once
@pytest.mark.parametrize("allowed", [0, 1])
def test_a_wave_begins_only_while_no_more_than_so_many_have_failed(fleet, allowed):
    """At most one host at a time, and none of them ends well."""
    for host in ("h1", "h2", "h3"):
        fleet.change(host, behaves="fail")

    stopped = fleet.play(at_most=1, canaries=[], abort_after=allowed)

    assert stopped.code != 0
    assert len(fleet.begun) == allowed + 1
    assert fleet.order == [f"{what} {host}" for host in fleet.begun for what in ("begin", "end")]
    assert f"{allowed + 1} hosts" not in stopped.out
    assert "rollout r1 stops, no further wave begins; " in stopped.out


@once
def test_no_more_hosts_than_asked_for_are_done_at_once_and_all_are_done(fleet):
    fleet.host("h4", "")
    fleet.change("h4", sets="other")

    done = fleet.play(at_most=1, canaries=["h3", "h4"])

    assert done.code == 0
    assert {*fleet.begun[:2]} == {"h3", "h4"}
    assert sorted(fleet.begun) == ["h1", "h2", "h3", "h4"]
    assert fleet.order == [f"{what} {host}" for host in fleet.begun for what in ("begin", "end")]


@once
def test_a_wave_soaks_and_its_gate_comes_afterwards_but_not_where_nothing_was_done(fleet):
    """Canaries soak for a time of their own."""
    gate = fleet.folder.parent / "gate.yml"
    at = "{{ lookup('ansible.builtin.pipe', 'date +%s.%N') }}"
    line = f"gate {{{{ inventory_hostname }}}} {at}"
    command = {"argv": ["sh", "-c", f"echo {line} >> {fleet.folder}/order"]}
    gate.write_text(json.dumps([{"name": "Ask", "ansible.builtin.command": command}]))
    given = {"soak_s": 2, "canary_soak_s": 1, "gate_tasks": str(gate)}

    done = fleet.play(**given)

    assert done.code == 0, done.out
    assert "Pausing for 1 seconds" in done.out
    assert "Pausing for 2 seconds" in done.out
    ended_s = (fleet.folder / "h2" / "done.r1").stat().st_mtime
    asked_s = next(float(one.split()[2]) for one in fleet.order if one.startswith("gate h2"))
    assert asked_s - ended_s >= 1
    assert [one.split()[0] for one in fleet.order[:3]] == ["begin", "end", "gate"]

    again = fleet.play(**given)
    assert again.code == 0
    assert "Pausing" not in again.out


@once
@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"absent": "perhaps"}, "value of rolling_maintenance_absent must be one of: fail, skip"),
        ({"not_after": "noon"}, "invalid time 'noon', expected e.g. 2026-12-01T06:00+00:00"),
        ({"canaries": ["h9"]}, "no host was touched; canaries that are not in the inventory: h9"),
        ({"options": {"kindd": "qemu"}}, "kindd"),
    ],
)
def test_what_is_not_understood_stops_it_before_a_host_is_touched(fleet, given, message):
    refused = fleet.play(**given)

    assert refused.code != 0
    assert fleet.begun == []
    assert message in " ".join(refused.out.split())
    assert "Traceback" not in refused.out
