"""The views of a fleet: the same promises on SQLite and on a real PostgreSQL."""

from __future__ import annotations

import json
import threading
import xml.etree.ElementTree as ET
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from lxml import etree

from harness.cli.main import run_command_line
from harness.core.errors import RunDied, SetLeased
from harness.core.records import Outcome
from harness.fleet.database import FleetDatabase
from harness.fleet.leases import take
from harness.fleet.progress import Patience, Progress
from harness.results.answer import Answer, Ending
from harness.testing.runs import HOSTILE, a_guest, a_run

SCHEMA = etree.XMLSchema(etree.parse(Path(__file__).parents[1] / "data" / "junit-10.xsd"))
#: Hosts, and the availability sets that each has guests of.
HOSTS = {"h1": ["web"], "h2": ["web", "db"], "h3": ["db"], "h4": []}
#: What a host says on which there is nothing to do.
IDLE = {"rollout": "r", "outcome": "not-needed", "error": {"message": "so already"}}
PATIENT, IMPATIENT = Patience(600.0, 600.0, 60.0), Patience(-1.0, -1.0, 0.0)


def a_plan(sets):
    guests = [{"name": f"g-{one}", "availability_set": one} for one in sets]
    return {"update_domains": [{"name": "0", "guests": guests}], "later": []}


class Fleet:
    """Commands of a controller, and what hosts tell."""

    def __init__(self, url, folder, capsys):
        self.url, self.folder, self.capsys = url, folder, capsys
        self.told = []

    def command(self, *words, code=0):
        found = run_command_line(["fleet", *words, "--database", self.url, "--json"])
        printed = self.capsys.readouterr()
        assert found == code, printed.out + printed.err
        return json.loads(printed.out)

    def plan(self, *options, hosts=HOSTS, code=0):
        for host, plan in hosts.items():
            plan = plan if isinstance(plan, dict) else a_plan(plan)
            (self.folder / f"{host}.json").write_text(json.dumps(plan))
        files = [str(self.folder / f"{host}.json") for host in hosts]
        return self.command("plan", *files, "--rollout", "r", *options, code=code)

    def host(self, name, patience=PATIENT):
        return Progress(FleetDatabase(self.url), "r", name, patience, self.told.append)

    def status(self):
        return self.command("status", "r")

    def states(self):
        return {one["host"]: one["state"] for w in self.status()["waves"] for one in w["hosts"]}


@pytest.fixture
def fleet(url, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return Fleet(url, tmp_path, capsys)


def passed(run_id="20261127-1-aaaaaa", **changes):
    record = a_run(run_id=run_id)
    known = {"rollout": "r", "outcome": Ending.PASS, "exit_code": 0, "record": record}
    return Answer.model_validate({**known, **changes})


def waves(said):
    return [(one["canary"], one["hosts"]) for one in said["waves"]]


def test_planned_again_it_has_the_same_waves(fleet):
    """Also when hosts are done by then, refuse, or have other guests: that is told."""
    first = fleet.plan("--canary", "h4", "--soak", "90s")
    assert waves(first) == [(True, ["h4"]), (False, ["h2"]), (False, ["h1", "h3"])]
    assert (first["rollout"], first["soak_s"], first["warnings"]) == ("r", 90.0, [])
    down = {"error": {"message": "is paused"}}
    changed = {"h1": ["web"], "h2": IDLE, "h3": ["web"], "h4": down}
    again = fleet.plan("--soak", "1.5m", "--canary", "h4", hosts=changed)
    assert waves(again) == waves(first)
    refused, shared = again["warnings"]
    assert refused == "host h4 refused: is paused"
    assert shared.startswith("hosts h1 and h3 of wave 3 both have guests of availability set web")
    assert fleet.command("plan", "--rollout", "r") == first
    assert waves(fleet.plan("--canary", "h4", "--soak", "90s")) == waves(first)


@pytest.mark.parametrize(
    ("options", "hosts", "said"),
    [
        (("--canary", "h1"), HOSTS, "canary: now also h1"),
        (("--at-most", "1"), HOSTS, "at_most: was not given, now 1"),
        (("--wave", "h1=2"), HOSTS, "wave: now also h1=2"),
        (("--soak", "1s"), HOSTS, "soak_s: was not given, now 1.0"),
        ((), {"h1": [], "h9": []}, "hosts: no longer h2 h3 h4, now also h9"),
    ],
)
def test_other_arguments_are_refused(fleet, options, hosts, said):
    first = fleet.plan()
    refused = fleet.plan(*options, hosts=hosts, code=2)
    assert refused["error"]["message"] == f"rollout r was planned with other arguments: {said}"
    assert fleet.command("plan", "--rollout", "r") == first


def test_of_two_controllers_at_one_instant_both_have_the_same_waves(url, fleet):
    """Whichever was first; the tables are made at that instant too."""
    from harness.fleet.frozen import WavesAsked, freeze, frozen_waves
    from harness.fleet.plans import read_plan
    from harness.fleet.waves import FleetHost, plan_waves

    together = threading.Barrier(6)
    plans = {host: read_plan(host, a_plan(sets)) for host, sets in HOSTS.items()}

    def come(number):
        mine, at_most = FleetDatabase(url), number % 3 + 1
        made = plan_waves((FleetHost(h, p.sets) for h, p in plans.items()), at_most=at_most)
        together.wait(timeout=30)
        freeze(mine, "r", WavesAsked(tuple(HOSTS), at_most=at_most), made, plans)
        return frozen_waves(mine, "r")

    with ThreadPoolExecutor(6) as threads:
        found = list(threads.map(come, range(6)))
    assert len(found[0].plans) == len(HOSTS)
    assert found == [found[0]] * 6


def test_hosts_that_come_late_get_waves_after_those_that_are_kept(fleet):
    """Canaries of them first; those that are kept, and how they were asked for, stay."""
    first = fleet.plan("--canary", "h4", "--soak", "90s")
    late = {"h5": ["db"], "h6": ["db"], "h7": [], "h1": ["mail"], "h8": IDLE}

    now = fleet.plan("--late", "--canary", "h7", hosts=late)

    assert waves(now)[: len(first["waves"])] == waves(first)
    assert waves(now)[len(first["waves"]) :] == [(True, ["h7"]), (False, ["h5"]), (False, ["h6"])]
    assert (now["soak_s"], now["not_needed"], now["warnings"]) == (90.0, {"h8": "so already"}, [])
    assert fleet.plan("--late", hosts=late) == now
    assert fleet.command("plan", "--rollout", "r", "--soak", "90s", "--canary", "h4") == now
    # Planned again, with them or without, it is the same rollout.
    asked = ("--canary", "h4", "--soak", "90s")
    assert waves(fleet.plan(*asked)) == waves(now)
    assert waves(fleet.plan(*asked, "--canary", "h7", hosts={**late, **HOSTS})) == waves(now)
    assert set(fleet.states().values()) == {"waiting"}
    assert [wave["number"] for wave in fleet.status()["waves"]] == [1, 2, 3, 4, 5, 6]


def test_a_host_that_was_left_out_and_has_guests_now_gets_a_wave(fleet):
    fleet.plan(hosts={"h1": ["web"], "h2": IDLE})
    again = fleet.plan("--late", hosts={"h2": ["web"]})
    assert waves(again) == [(False, ["h1"]), (False, ["h2"])]
    assert again["not_needed"] == {}


@pytest.mark.parametrize(
    ("options", "hosts", "said"),
    [
        (("--soak", "1s"), {"h9": []}, "--soak is kept when a rollout is planned first"),
        (("--canary", "h8"), {"h9": []}, "no plan of host 'h8'"),
        ((), {}, "missing HOST.json"),
        ((), {"h9": {"error": {"message": "is paused"}}}, "host h9 refused: is paused"),
        (
            ("--wave", "h8=1", "--wave", "h9=1"),
            {"h8": ["x"], "h9": ["x"]},
            "hosts h8 and h9 are both in wave 1",
        ),
    ],
)
def test_late_hosts_that_cannot_be_planned_change_nothing(fleet, options, hosts, said):
    first = fleet.plan()
    assert said in fleet.plan("--late", *options, hosts=hosts, code=2)["error"]["message"]
    assert fleet.command("plan", "--rollout", "r") == first


def test_late_hosts_of_a_rollout_that_is_not_known_are_refused(fleet):
    assert "has no waves yet" in fleet.plan("--late", code=2)["error"]["message"]


def test_of_two_controllers_that_add_hosts_at_one_instant_each_host_is_in_one_wave(url, fleet):
    """What both add is there once; what one adds is after what the other did."""
    from harness.fleet.frozen import frozen_waves
    from harness.fleet.late import append
    from harness.fleet.plans import read_plan
    from harness.fleet.waves import FleetHost, plan_waves

    first = fleet.plan()
    together = threading.Barrier(6)
    both = read_plan("both", a_plan(["db"]))

    def come(number):
        mine, own = FleetDatabase(url), f"own-{number}"
        assert frozen_waves(mine, "r")  # the first question of all waits for the tables to be made
        together.wait(timeout=30)
        return append(
            mine,
            "r",
            {"both": both, own: read_plan(own, a_plan(["db"]))},
            lambda plans: plan_waves(FleetHost(host, one.sets) for host, one in plans.items()),
        )

    with ThreadPoolExecutor(6) as threads:
        found = list(threads.map(come, range(6)))
    last = waves(fleet.command("plan", "--rollout", "r"))
    added = [hosts for _, hosts in last[len(first["waves"]) :]]
    assert last[: len(first["waves"])] == waves(first)
    assert sorted(added) == [["both"], *([f"own-{number}"] for number in range(6))]
    for one in found:  # each had what was there when its turn came
        assert [(wave.canary, list(wave.hosts)) for wave in one.waves] == last[: len(one.waves)]


def test_a_rollout_that_goes_on_is_told_wave_by_wave(fleet):
    """Waiting, running, soaking between update domains, done; the next wave waits for the soak."""
    fleet.plan("--canary", "h4", "--soak", "10m")
    said = fleet.status()
    assert (said["state"], said["wave"], said["waves_in_all"]) == ("waiting", 1, 3)
    one = fleet.host("h4")
    one.begins()
    one.run_begins("20261127-1-aaaaaa")
    assert fleet.states()["h4"] == "running"
    one.domain_begins(1, 2)
    (now,) = fleet.status()["waves"][0]["hosts"]
    assert (now["doing"], now["run_id"]) == ("update domain 1/2", "20261127-1-aaaaaa")
    one.domain_ended(1, 2)
    assert fleet.states()["h4"] == "soaking"
    one.domain_begins(2, 2)
    one.domain_ended(2, 2)
    assert fleet.states()["h4"] == "running"
    one.ended(passed())
    said = fleet.status()
    assert (said["state"], said["wave"]) == ("soaking", 1)
    assert said["counts"] == {
        **dict.fromkeys(said["counts"], 0),
        "done": 1,
        "waiting": 3,
    }
    (done,) = said["waves"][0]["hosts"]
    assert (done["outcome"], done["exit_code"], done["due_at"]) == ("pass", 0, None)
    assert done["pause_window_s"] is not None
    assert said["waves"][0]["soaks_until"] > done["ended_at"]
    assert fleet.told == []


def test_what_went_wrong_is_named(fleet):
    """Failed, found dead, silent, not now; and which leases ended by themselves."""
    fleet.plan()
    fleet.host("h1").ended(passed(outcome=Ending.FAIL, exit_code=1))
    fleet.host("h2", IMPATIENT).begins()
    fleet.host("h3").begins()
    fleet.host("h3").died(RunDied("run x died", hint="harness recover"))
    fleet.host("h4").ended(Answer.refusal("r", SetLeased("set web is held")))
    wrong = {"h1": "failed", "h2": "silent", "h3": "died", "h4": "waiting"}
    assert fleet.states() == wrong
    said = fleet.status()
    assert said["state"] == "died"
    told = {one["host"]: one["message"] for wave in said["waves"] for one in wave["hosts"]}
    assert told["h3"] == "run x died (hint: harness recover)"
    assert told["h4"] == "set web is held"
    database = FleetDatabase(fleet.url)
    take(database, ["web"], update_domain="0", run_id="x", host="h3", seconds=-1.0)
    take(database, ["other"], update_domain="0", run_id="y", host="h9", seconds=60.0)
    (lease,) = fleet.status()["leases"]
    assert (lease["availability_set"], lease["host"], lease["expired"]) == ("web", "h3", True)
    run_command_line(["fleet", "status", "--database", fleet.url])
    shown = fleet.capsys.readouterr().out
    assert "h2: silent since preparing" in shown
    assert "the lease of availability set web ended by itself" in shown
    assert "update domain 0 on h3, run x, did not release it (hint: harness status there" in shown


def test_an_end_that_is_told_again_stays_as_it_was(fleet):
    """A host that found its part done; it counts where the database had missed it."""
    fleet.host("h1").ended(passed())
    (first,) = fleet.status()["waves"][0]["hosts"]
    fleet.host("h1").ended(passed(), known=True)
    (again,) = fleet.status()["waves"][0]["hosts"]
    assert again == first
    fleet.host("h2").ended(passed(), known=True)
    assert fleet.states() == {"h1": "done", "h2": "done"}
    assert fleet.status()["waves_in_all"] is None


def test_a_database_that_is_gone_is_a_warning_for_a_host(tmp_path):
    told: list[str] = []
    database = FleetDatabase(f"sqlite:///{tmp_path}/no/folder.db")
    host = Progress(database, "r", "h1", PATIENT, told.append)
    host.begins()
    host.domain_begins(1, 1)
    host.ended(passed())
    assert len(told) == 3
    assert all(line.startswith("the views of the fleet lack this: ") for line in told)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("status",), "no rollout is known"),
        (("status", "x"), "no rollout 'x'"),
        (("plan", "--rollout", "x"), "rollout x has no waves yet"),
        (("plan", "--rollout", " "), "invalid ID"),
        (("plan",), "missing HOST.json"),
    ],
)
def test_what_is_not_known_is_refused(fleet, words, said):
    assert said in fleet.command(*words, code=2)["error"]["message"]


def test_without_a_database_nothing_can_be_shown(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "harness.toml").touch()
    for words in (["status"], ["plan", "--rollout", "r"]):
        assert run_command_line(["fleet", *words, "--json"]) == 2
        assert "no database" in json.loads(capsys.readouterr().out)["error"]["message"]


def test_one_page_and_one_junit_file_tell_of_every_host(fleet):
    """A host is a suite; names are data; what did not begin is skipped, what is silent an error."""
    bad = a_guest(HOSTILE, Outcome.FAIL)
    fleet.plan()
    fleet.host("h1").ended(passed(record=a_run(a_guest("g1"))))
    record = a_run(bad, outcome=Outcome.FAIL)
    fleet.host("h2").ended(passed(record=record, outcome=Ending.FAIL, exit_code=1))
    fleet.host("h3", IMPATIENT).begins()

    def written(form):
        command = ["fleet", "report", "r", "--format", form, "-o", f"r.{form}"]
        assert run_command_line([*command, "--database", fleet.url]) == 0
        assert fleet.capsys.readouterr().out.strip() == f"r.{form}"
        return (fleet.folder / f"r.{form}").read_text()

    suites = ET.fromstring(written("junit"))
    assert SCHEMA.validate(etree.parse(fleet.folder / "r.junit")), SCHEMA.error_log
    told = {
        suite.get("name"): [suite.get(key) for key in ("failures", "errors", "skipped")]
        for suite in suites
    }
    assert told == {
        "h1": ["0", "0", "1"],  # the check that was not asked for
        "h2": ["2", "0", "1"],  # the check, and the host
        "h3": ["0", "1", "0"],
        "h4": ["0", "0", "1"],
    }
    text = written("html")
    assert "<script>" not in text
    for said in ("Rollout r", "silent since preparing", "h4", "5.012 s"):
        assert said in text
    answered = fleet.command("report", "r")["answers"]
    assert answered["h2"]["record"]["guests"][0]["name"] == HOSTILE


def test_rollouts_over_time(fleet):
    """The newest first, with the worst figures of each."""
    fleet.plan()
    fleet.host("h1").ended(passed())
    fleet.host("h2").ended(passed(outcome=Ending.FAIL, exit_code=1))
    other = Progress(FleetDatabase(fleet.url), "later", "h1", PATIENT, fleet.told.append)
    other.begins()
    later, first = fleet.command("history")["rollouts"]
    assert (later["rollout"], later["state"], later["longest_pause_s"]) == (
        "later",
        "running",
        None,
    )
    assert (first["hosts"], first["done"], first["in_trouble"]) == (4, 1, 1)
    assert first["longest_pause_s"] == pytest.approx(5.012)
    assert first["took_s"] is not None
    assert run_command_line(["fleet", "history", "--database", fleet.url]) == 0
    assert "5.012 s" in fleet.capsys.readouterr().out
