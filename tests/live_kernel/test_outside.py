"""The host's kernel is replaced by a command of another machine, which follows it by real SSH.

This process is the other machine: the way to the emulated host is a tap, and the host's key is
pinned. Nothing of the host's is read here but by SSH.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import tomli_w

from harness.results.folder import RunFolder
from harness.results.history.store import History
from tests.live_kernel.enrolled import (
    BUDGET_S,
    CONFIG,
    EXPECTED_S,
    GUESTS,
    STATE,
    Enrolled,
    harness,
    last,
    record,
    told,
)
from tests.live_kernel.terms import table
from tests.live_kernel.way import Way

#: What root's harness there reads where nothing else is named.
CONFIG_OF_HOST = "/etc/harness/harness.toml"
#: Of an answer that is under way when a guest is paused, and of asking five times a second.
FORGIVEN_S = 0.7
#: More than an emulated host takes for a kernel, and less than a test has patience for.
AWAY_S = 90


@dataclass
class Outside:
    """The other machine: its configuration, what it knows of the host, and its runs."""

    folder: Path
    resident: Enrolled
    way: Way
    guests: dict[str, str]
    """Addresses by name."""

    def start(self, *words: str, return_s: float, **update: str) -> subprocess.Popen[str]:
        """Give ``harness run`` of the host here; what it says goes to ``said``."""
        known = self.folder / "known_hosts"
        query = f"keyfile={self.resident.host.key}&known_hosts={known}"
        document = {
            "uri": f"qemu+ssh://root@{self.way.there}/system?{query}",
            "budget_s": BUDGET_S,
            "update": {"kind": "kernel", "expected_s": EXPECTED_S, **update},
            "outside": {"return_s": return_s},
            "guest": [{"name": name, "address": one} for name, one in self.guests.items()],
        }
        (self.folder / "harness.toml").write_text(tomli_w.dumps(document))
        own = {"HARNESS_STATE_DIR": str(self.folder / "state"), "HOME": str(self.folder)}
        with (self.folder / "said").open("a") as said:
            return subprocess.Popen(
                [sys.executable, "-P", "-m", "harness", "run", "--json", *words],
                cwd=self.folder,
                env={**os.environ, **own},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=said,
                text=True,
            )

    @property
    def said(self) -> str:
        return (self.folder / "said").read_text()

    def kept(self, run: str) -> dict[str, Any]:
        """The run as this machine has it: its record, its page, its line in the history."""
        folder = RunFolder(self.folder / "state" / "runs" / run)
        found = folder.record().model_dump(mode="json")
        assert all(name in (folder.path / "report.html").read_text() for name in GUESTS)
        with History.open(f"sqlite:///{self.folder}/state/history.db") as history:
            assert history.find(run).exit_code == found["exit_code"]
        return found


@pytest.fixture
def outside(resident, tmp_path) -> Iterator[Outside]:
    """It has the way to the host and its guests, with the host's key; the host has its own file."""
    host, way = resident.host, resident.way
    assert way is not None
    resident.be_old()
    host.sh(way.set_up())
    host.sh(f"sed -i '/^\\[update\\]/,$d' {CONFIG}")
    # Its files stay beside the lab's configuration, which names them from there.
    whole = f's#^(identity_file|known_hosts) = "#&{STATE}/lab/#'
    host.sh(f"install -D -m 600 {CONFIG} {CONFIG_OF_HOST}")
    host.sh(f"sed -E -i {shlex.quote(whole)} {CONFIG_OF_HOST}")
    assert host.sh(f"grep -c {STATE}/lab/ {CONFIG_OF_HOST}").strip() == "2"
    (tmp_path / "known_hosts").write_text(f"{way.there} {host.host_key}\n")
    table = json.loads(harness(host, "lab", "status", "--json"))
    guests = {one["name"]: one["address"] for one in table["guests"]}
    way.lead_to(list(guests.values()))
    yield Outside(tmp_path, resident, way, guests)
    host.sh(f"rm {CONFIG_OF_HOST}")


def test_a_host_that_does_not_come_back_is_an_error_here_and_found_again_by_its_id(outside):
    """A panic that nothing resets: whether guests run is not known. Then somebody presses reset."""
    host, before = outside.resident.host, told(outside.resident.host)
    _, kernel, initrd = outside.resident.other()
    line = host.sh("cat /proc/cmdline").strip()
    with host.kept_by_a_reset():
        already = len(host.lines["host"])
        words = {"kernel": kernel, "initrd": initrd, "cmdline": f"{line} rdinit=/none panic=0"}
        command = outside.start(return_s=AWAY_S, **words)
        host.wait("host", "Kernel panic", already)
        out, _ = command.communicate(timeout=AWAY_S + 120)
        found = json.loads(out)
        assert (command.returncode, found["outcome"], found["exit_code"]) == (3, "error", 3)
        (problem,) = found["problems"]
        assert "has not answered for" in problem
        assert "whether its guests run is not known" in problem
        assert not found["outside"]["host"]["answers"]
        assert {one["name"]: one["answers"] for one in found["outside"]["guests"]} == dict.fromkeys(
            GUESTS, False
        )
        rollout = re.search(r"--rollout (\S+)", problem)
        assert rollout is not None

        already = len(host.lines["host"])
        host.reset()
        host.wait("host", "Debian GNU/Linux", already)
        command = outside.start("--rollout", rollout[1], return_s=BUDGET_S, **words)
        out, _ = command.communicate(timeout=1200)
    answer = json.loads(out)
    assert (command.returncode, answer["exit_code"]) == (1, 1), outside.said
    assert "rolled back by reset" in json.dumps(answer["record"])
    assert outside.kept(answer["record"]["run_id"])["outcome"] == "fail"
    assert told(host) == before


def test_a_run_from_another_machine_is_followed_over_the_kexec_and_its_record_is_whole(outside):
    """The host's verdict and record, with what was seen from here; nobody logged in beside it."""
    host, before = outside.resident.host, told(outside.resident.host)
    release, kernel, initrd = outside.resident.other()
    already = len(host.lines["host"])
    command = outside.start(return_s=BUDGET_S, kernel=kernel, initrd=initrd)
    out, _ = command.communicate(timeout=1800)
    assert command.returncode == 0, outside.said
    found = json.loads(out)
    seen = found.pop("outside")
    sys.stdout.write(f"{outside.said}\n{json.dumps(seen, indent=1)}\n")
    journal = [json.loads(line) for line in last(host, "journal.jsonl").splitlines()]
    sys.stdout.write(f"{table(journal, host.lines['host'][already:])}\n")

    assert (found["outcome"], found["problems"]) == ("pass", [])
    assert not [one for one in found["warnings"] if "another machine's" in one]
    assert "fell silent" in outside.said
    assert "answers again" in outside.said
    assert outside.kept(found["run_id"]) == {**found, "outside": seen}

    pauses = {one["name"]: one["pause_window_s"] for one in found["guests"]}
    assert pauses.keys() == set(GUESTS)
    assert seen["unreachable_s"] > max(pauses.values()) / 2
    for one in (seen["host"], *seen["guests"]):
        assert one["answers"], one
    for one in seen["guests"]:
        assert one["silent_s"] > pauses[one["name"]] - FORGIVEN_S, (one, pauses)
    assert not seen["notes"]

    assert host.sh("uname -r").strip() == release
    assert told(host) == before
    of_host = record(host)
    assert of_host.pop("outside", None) is None
    assert of_host == found
    assert "no dead runs" in harness(host, "recover")
    assert seen["rollout"] in last(host, "run.json")
