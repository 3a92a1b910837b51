"""The inventory of a rollout, from a real database by the real command.

The callback is in the tests of the engine.
"""

from __future__ import annotations

import json
import subprocess

import pytest

from harness.core.errors import RunDied
from harness.fleet.database import FleetDatabase
from harness.fleet.progress import Patience, Progress
from harness.results.answer import Answer, Ending
from harness.testing.runs import a_run
from tests.fleet.playbooks import HARNESS
from tests.postgresql import postgresql_server

pytestmark = pytest.mark.timeout(600)
#: What a host says is data, for Ansible too.
SAID = "{{ lookup('ansible.builtin.pipe', 'touch /obeyed') }}"
HOSTS = {"h1": ["web"], "h2": ["web"], "h3": ["db"], "h4": []}


@pytest.fixture
def postgresql():
    """The URL of an empty database of our own."""
    with postgresql_server() as server:
        yield server.url


def told(url: str, folder) -> None:
    """A rollout r1: h2 the canary is done, h1 died, h3 waits, h4 needs nothing."""
    files = []
    for host, sets in HOSTS.items():
        guests = [{"name": f"g-{one}", "availability_set": one} for one in sets]
        domains = [{"name": "0", "guests": guests}]
        plan: dict[str, object] = {"update_domains": domains, "later": []}
        if not sets:
            plan = {"rollout": "r1", "outcome": "not-needed", "error": {"message": "so already"}}
        files.append(folder / f"{host}.json")
        files[-1].write_text(json.dumps(plan))
    words = ["fleet", "plan", "--rollout=r1", f"--database={url}", "--canary=h2", "--json"]
    subprocess.run([HARNESS, *words, "--", *files], check=True, capture_output=True)

    def part(name: str) -> Progress:
        return Progress(FleetDatabase(url), "r1", name, Patience(60, 60, 60), print)

    record = a_run(run_id="20261127-1-aaaaaa")
    part("h2").ended(Answer(rollout="r1", outcome=Ending.PASS, exit_code=0, record=record))
    part("h1").begins()
    part("h1").died(RunDied(SAID))


def inventory(engine, folder, **given) -> subprocess.CompletedProcess[str]:
    """Ask for the inventory of a file with these keys."""
    file = folder / "fleet.harness.yml"
    known = {"plugin": "harness_kvm.fleet.rollout", "executable": HARNESS}
    file.write_text(json.dumps({**known, **given}))
    return subprocess.run(
        [engine.core / "bin" / "ansible-inventory", "-i", file, "--list"],
        env=engine.environment(folder / "home", ANSIBLE_INVENTORY_UNPARSED_FAILED="1"),
        capture_output=True,
        text=True,
        cwd=folder,
    )


def plain(variables):
    """Return variables without the mark of those that Ansible would not take for a template."""
    return {
        name: value["__ansible_unsafe"] if isinstance(value, dict) else value
        for name, value in variables.items()
    }


@pytest.mark.parametrize(
    ("core", "kept"), [("oldest", "sqlite"), ("newest", "sqlite"), ("newest", "postgresql")]
)
def test_hosts_of_a_rollout_with_their_waves_and_states(request, tmp_path, core, kept):
    url = f"sqlite:///{tmp_path / 'fleet.db'}"
    if kept == "postgresql":
        url = request.getfixturevalue("postgresql")
    told(url, tmp_path)

    composed = {"ansible_host": "inventory_hostname ~ '.example.org'", "shown": "fleet_message"}
    groups = {"to_be_done": "fleet_state == 'waiting'"}
    found = inventory(
        request.getfixturevalue(core), tmp_path, database=url, compose=composed, groups=groups
    )

    assert found.returncode == 0, found.stderr
    listed = json.loads(found.stdout)
    members = {name: group.get("hosts") for name, group in listed.items() if name != "_meta"}
    assert members["fleet_wave_1"] == members["fleet_canaries"] == members["fleet_done"] == ["h2"]
    assert sorted(members["fleet_wave_2"]) == ["h1", "h3"]
    assert members["fleet_died"] == ["h1"]
    assert members["fleet_waiting"] == members["to_be_done"] == ["h3"]
    assert members["fleet_not_needed"] == members["fleet_no_wave"] == ["h4"]
    known = {host: plain(given) for host, given in listed["_meta"]["hostvars"].items()}
    assert known["h2"]["fleet_pause_window_s"] == 5.012
    assert known["h2"]["ansible_host"] == "h2.example.org"
    assert (known["h2"]["fleet_wave"], known["h2"]["fleet_canary"]) == (1, True)
    assert known["h1"]["shown"] == known["h1"]["fleet_message"] == SAID
    assert known["h4"]["fleet_message"] == "so already"
    assert {host["fleet_rollout"] for host in known.values()} == {"r1"}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"rollout": "r2"}, "harness fleet status: no rollout 'r2'"),
        ({"database": "mysql//x"}, "not the URL of a database (hint: sqlite:///FILE, postgresql"),
        ({"database": "postgresql://a:secret@h/d"}, "a URL with a password would be shown"),
        ({"executable": "/no/harness"}, "/no/harness on the controller: "),
        ({"groups": {"x": "nonsense +"}, "strict": True}, "x"),
        ({"databse": "sqlite:///x"}, "no option 'databse', only compose, database, executable, "),
    ],
)
def test_what_is_wrong_is_said_in_one_line(newest, tmp_path, given, message):
    url = f"sqlite:///{tmp_path / 'fleet.db'}"
    told(url, tmp_path)

    refused = inventory(newest, tmp_path, **{"database": url, **given})

    assert refused.returncode != 0
    assert message in " ".join(refused.stderr.split())
    assert "secret" not in refused.stderr
    assert "Traceback" not in refused.stderr
