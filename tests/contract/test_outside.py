"""A run of kind `kernel` that is started from another machine: over real SSH, by real processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from harness.core.records import Outcome
from harness.core.timebase import Deadline, NotYet, wait_for
from harness.results.folder import RunFolder
from harness.results.history.store import History
from harness.testing.runs import a_run
from tests.contract.stand_in_host import StandInHost, answer_of, stand_in_host

HARNESS = str(Path(sys.executable).with_name("harness"))
RUN = a_run().run_id
TOML = """
uri = "{uri}"
budget_s = 60
[update]
kind = "kernel"
kernel = "/boot/vmlinuz-6.12"
[outside]
return_s = {return_s}
[ssh]
user = "someone"
[[guest]]
name = "web1"
"""
#: As the command, but what falls silent is given up sooner than an emulated host may be.
IMPATIENT = """
import sys
from harness.fleet.outside import connection
connection.SILENT_S = 5.0
connection._CONNECT_S = 10.0
from harness.cli.main import main
main()
"""


@dataclass
class Outside:
    """Another machine: what it has, and the commands that are given there."""

    folder: Path
    host: StandInHost
    started: list[subprocess.Popen[str]] = field(default_factory=list)

    def start(self, *words: str, return_s: float = 300, uri: str | None = None) -> None:
        text = TOML.format(uri=uri or self.host.uri, return_s=return_s)
        (self.folder / "harness.toml").write_text(text)
        with open(self.folder / "said", "a") as said:
            self.started.append(
                subprocess.Popen(
                    [sys.executable, "-P", "-c", IMPATIENT, *(words or ("run", "--json"))],
                    cwd=self.folder,
                    env={
                        **os.environ,
                        "HARNESS_STATE_DIR": str(self.folder / "state"),
                        "HOME": str(self.folder),
                    },
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=said,
                    text=True,
                )
            )

    def ended(self) -> tuple[int, dict[str, Any]]:
        out, _ = self.started[-1].communicate(timeout=120)
        return self.started[-1].returncode, json.loads(out) if out else {}

    @property
    def said(self) -> str:
        return (self.folder / "said").read_text()

    def until_said(self, what: str) -> None:
        def look() -> None:
            if what not in self.said:
                raise NotYet(self.said[-300:])

        wait_for(look, what=what, deadline=Deadline.after(90))

    @property
    def runs(self) -> list[RunFolder]:
        return [RunFolder(one) for one in sorted((self.folder / "state" / "runs").glob("*"))]


def option(call: list[str], name: str) -> str:
    return call[call.index(name) + 1]


@pytest.fixture
def outside(tmp_path) -> Iterator[Outside]:
    with stand_in_host(tmp_path / "host") as host:
        here = tmp_path / "here"
        here.mkdir()
        found = Outside(here, host)
        yield found
        for one in found.started:
            if one.poll() is None:
                one.kill()
            one.communicate()


def begun(outside: Outside, *words: str, **more: Any) -> str:
    """Start it; return by which ID the host has it."""
    outside.start(*words, **more)
    return option(outside.host.until_called(), "--rollout")


def test_a_run_outlives_the_kernel_of_its_host_and_its_record_is_kept_here(outside):
    """run.json, report, history and exit code are those of a run that was made here."""
    rollout = begun(outside, "run", "--json")
    outside.until_said("guests are paused")
    outside.host.fall_silent()
    outside.until_said("fell silent")
    outside.host.answers(rollout)
    outside.host.come_up()
    code, record = outside.ended()

    assert code == 0, outside.said
    assert (record["run_id"], record["outcome"]) == (RUN, "pass")
    assert 5.0 < record["outside"]["unreachable_s"] < 200
    (folder,) = outside.runs
    assert folder.record().model_dump(mode="json") == record
    assert "web1" in (folder.path / "report.html").read_text()
    with History.open(f"sqlite:///{outside.folder}/state/history.db") as history:
        assert (history.count(), history.find(RUN).exit_code) == (1, 0)
    assert "answers again" in outside.said
    first, again = outside.host.calls
    assert first == again


def test_the_host_is_given_the_maintenance_and_not_what_is_of_this_machine(outside):
    rollout = begun(outside, "run", "--budget", "45", "--soak", "1m", "web2", "!web3", "--json")
    outside.host.answers(rollout)
    assert outside.ended()[0] == 0, outside.said
    (call,) = outside.host.calls
    assert call[:3] == ["run", "--detach", "--json"]
    assert option(call, "--uri") == "qemu:///system"
    assert json.loads(option(call, "--settings")) == {
        "budget_s": 45.0,
        "soak_s": 60.0,
        "update.kind": "kernel",
        "update.kernel": "/boot/vmlinuz-6.12",
    }
    assert call[call.index("--") :] == ["--", "web2", "!web3"]
    assert "not sent: guest, outside.return_s, ssh.user" in outside.said


@pytest.mark.parametrize(("outcome", "code"), [(Outcome.FAIL, 1), (Outcome.ERROR, 3)])
def test_a_verdict_of_the_host_is_that_of_the_run(outside, outcome, code):
    """A reset to the old kernel is one: `host-kernel` fails there."""
    rollout = begun(outside)
    record = a_run(outcome=outcome).model_copy(update={"exit_code": code})
    outside.host.says(answer_of(rollout, record))
    returned, found = outside.ended()
    assert (returned, found["exit_code"], found["outcome"]) == (code, code, outcome.value)


def test_a_host_that_does_not_come_back_is_an_error_that_says_what_is_not_known(outside):
    rollout = begun(outside, return_s=8)
    outside.host.fall_silent()
    code, record = outside.ended()
    assert (code, record["outcome"], record["exit_code"]) == (3, "error", 3)
    (problem,) = record["problems"]
    assert "has not answered for" in problem
    assert "whether its guests run is not known" in problem
    assert "look at the console of 127.0.0.1" in problem
    assert f"--rollout {rollout}" in problem
    assert len(outside.runs) == 1

    outside.host.answers(rollout)
    outside.host.come_up()
    outside.start("run", "--rollout", rollout, "--json")
    code, answer = outside.ended()
    assert (code, answer["record"]["run_id"]) == (0, RUN)
    assert len(outside.runs) == 2


def test_a_host_that_comes_back_with_another_key_is_given_no_command(outside):
    rollout = begun(outside, return_s=10)
    outside.host.fall_silent()
    outside.until_said("fell silent")
    outside.host.answers(rollout)
    outside.host.come_up(other_key=True)
    code, record = outside.ended()
    assert (code, record["outcome"]) == (3, "error")
    assert "host key" in record["problems"][0]
    assert "compare the key at the console" in record["problems"][0]
    assert len(outside.host.calls) == 1


@pytest.mark.parametrize("what", ["answer", "record"])
def test_what_is_of_another_run_is_not_kept(outside, what):
    rollout = begun(outside)
    mine, other = answer_of(rollout), answer_of("another")
    outside.host.says(
        {**mine, "rollout": "another"}
        if what == "answer"
        else {**mine, **{"record": other["record"]}}
    )
    code, said = outside.ended()
    assert code == 3
    assert (
        "of run another" in said["error"]["message"]
        or "its record: another" in said["error"]["message"]
    )
    assert outside.runs == []


def test_a_host_without_harness_is_given_nothing(outside):
    (outside.host.here / "programs" / "harness").unlink()
    outside.start()
    code, said = outside.ended()
    assert (code, said["error"]["type"]) == (3, "MissingCapability")
    assert "has no command harness" in said["error"]["message"]


def test_a_host_with_another_version_is_given_nothing(outside):
    (outside.host.here / "version").write_text("9.9")
    outside.start()
    code, said = outside.ended()
    assert (code, said["error"]["type"]) == (2, "UsageError")
    assert "has harness 9.9" in said["error"]["message"]
    assert outside.host.calls == []


def test_a_host_whose_key_is_not_known_is_given_nothing(outside):
    (outside.host.here / "known_hosts").write_text("")
    outside.start()
    code, said = outside.ended()
    assert (code, said["error"]["type"]) == (3, "HostKeyUnknown")


@pytest.mark.parametrize(
    ("exit_code", "outcome", "here"),
    [(2, "refused", 2), (5, "not-now", 3), (6, "not-needed", 2), (3, "error", 3)],
)
def test_what_the_host_refuses_is_refused_here_in_its_words(outside, exit_code, outcome, here):
    rollout = begun(outside)
    error = {"type": "X", "message": "no region", "hint": "set it up", "guest": None, "where": None}
    said = answer_of(rollout, exit_code=exit_code)
    outside.host.says({**said, "outcome": outcome, "error": error, "record": None})
    code, told = outside.ended()
    assert code == here
    assert told["error"]["message"] == "127.0.0.1: no region"
    assert outside.runs == []


def test_a_long_answer_is_whole_however_slowly_harness_there_ends(outside):
    """More than a pipe's writer holds back: the beat comes between no two parts of it."""
    rollout = begun(outside)
    message = "no region " * 2000
    error = {"type": "X", "message": message, "hint": None, "guest": None, "where": None}
    said = answer_of(rollout, exit_code=2)
    outside.host.says({**said, "outcome": "refused", "error": error, "record": None})
    code, told = outside.ended()
    assert (code, len(outside.host.calls)) == (2, 1), outside.said
    assert told["error"]["message"] == f"127.0.0.1: {message}"


def test_what_is_no_answer_is_asked_for_again_until_the_limit(outside):
    """A file system may not be mounted yet; what never is an answer is an error in the end."""
    begun(outside, return_s=6)
    outside.host.says("Segmentation fault")
    code, record = outside.ended()
    assert code == 3
    assert "gave no answer" in record["problems"][0]


def test_a_guest_that_is_still_paused_is_the_loudest(outside):
    rollout = begun(outside)
    guest = a_run().guests[0].model_copy(update={"still_paused": True, "resume_hint": "virsh …"})
    record = a_run(guest, outcome=Outcome.ERROR).model_copy(update={"exit_code": 4})
    outside.host.says(answer_of(rollout, record))
    assert outside.ended()[0] == 4
    outside.until_said("STILL PAUSED: web1")


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("qemu+tcp://host7/system", "which is reached by SSH"),
        ("qemu+tls://host7/system", "which is reached by SSH"),
        ("qemu+ssh://host7/system?no_verify=1", "host's key not checked"),
        ("qemu+ssh://host7:port/system", "uri"),
    ],
)
def test_a_uri_by_which_no_host_is_safely_reached_is_refused(outside, uri, message):
    outside.start(uri=uri)
    code, said = outside.ended()
    assert (code, said["error"]["type"]) == (2, "ConfigError")
    assert message in said["error"]["message"]


def test_ctrl_c_ends_the_waiting_only(outside):
    rollout = begun(outside)
    outside.until_said("guests are paused")
    outside.started[-1].send_signal(2)
    code, said = outside.ended()
    assert code == 3
    assert "goes on without it" in said["error"]["message"]
    assert f"--rollout {rollout}" in said["error"]["hint"]
