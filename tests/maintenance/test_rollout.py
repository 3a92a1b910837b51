"""One ID is one run: real processes, on a host in memory."""

from __future__ import annotations

import json
import os
import shlex
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from harness.cli.main import run_command_line
from harness.core.errors import JournalError
from harness.core.timebase import Deadline, NotYet, wait_for
from harness.fleet.database import FleetDatabase
from harness.fleet.leases import held, release, take
from harness.host.lock import host_lock
from harness.results.answer import Ending, schema_of_answer, schema_of_run
from harness.results.journal import FILE_NAME, read
from harness.testing.guest import FakeGuest
from harness.testing.host import FakeHost
from tests.maintenance.forked import Forked, LoadedProcess
from tests.maintenance.in_memory import HARNESS, PATCHED, in_folder
from tests.maintenance.test_output import CONFIG

#: As ``HARNESS``; and what it starts in the background has guests in memory too.
WITH_ROLLOUTS = HARNESS.replace(
    "from harness.cli.main import main\nmain()\n",
    """
import os
import harness.cli.rollout as rollout
def unreachable():
    from harness.core.errors import ShellUnreachable
    raise ShellUnreachable("login refused", guest="web1")
if wrong == "login":
    def refuse(*_, **__):
        unreachable()
    connector.open = refuse
def again(*words):
    return [sys.executable, "-P", "-c", os.environ["DRIVER"], wrong, *words]
rollout.python_module = again
if sys.argv[1:2] == ["harness.cli.rollout"]:
    rollout.main(*sys.argv[2:])
from harness.cli.main import main
main()
""",
)
#: That these are schemas is tested where they are made; to look each time takes long.
ANSWER, RUN = map(jsonschema.Draft202012Validator, (schema_of_answer(), schema_of_run()))


@dataclass
class Host:
    """A host in memory, and commands for it."""

    folder: Path
    loaded: LoadedProcess
    started: list[Forked] = field(default_factory=list)

    def start(self, *arguments: str, wrong: str = "fine") -> Forked:
        one = self.loaded.start(
            WITH_ROLLOUTS,
            [wrong, *arguments, "--no-report", "-c", "house.toml", "--json"],
            folder=self.folder,
            environment={**in_folder(self.folder), "DRIVER": PATCHED + WITH_ROLLOUTS},
            text=True,
            new_session=True,
        )
        self.started.append(one)
        return one

    def run(self, *arguments: str, wrong: str = "fine") -> Answered:
        return ended(self.start(*arguments, wrong=wrong))

    @contextmanager
    def updating(self) -> Iterator[None]:
        """Updates go on, guests paused, until the end of the block."""
        hold = self.folder / "hold"
        hold.touch()
        try:
            yield
        finally:
            hold.unlink()

    @property
    def runs(self) -> list[Path]:
        return sorted((self.folder / "state" / "runs").glob("*"))

    def until(self, event: str) -> int:
        """Wait for a line of the only run's journal; the pid of the process that wrote it."""

        def look() -> int:
            try:
                (run,) = self.runs
                lines = read(run / FILE_NAME).lines
            except (ValueError, JournalError) as error:
                raise NotYet("no run yet") from error
            found = [line.pid for line in lines if line.event == event]
            if not found:
                raise NotYet(str([line.event for line in lines]))
            return found[0]

        return wait_for(look, what=event, deadline=Deadline.after(30))


@dataclass
class Answered:
    """How a command ended; what it printed fits the schema."""

    code: int
    answer: dict[str, Any]
    said: str


def ended(process: Forked) -> Answered:
    out, said = process.communicate(timeout=60)
    try:
        answer = json.loads(out)
    except ValueError:
        pytest.fail(f"no JSON document on stdout ({process.returncode}): {out!r}; {said}")
    ANSWER.validate(answer)
    assert answer["exit_code"] == process.returncode, (answer, said)
    if answer["record"] is not None:
        RUN.validate(answer["record"])
    return Answered(process.returncode, answer, said)


@pytest.fixture
def host(tmp_path, loaded) -> Iterator[Host]:
    wait = f"while [ -e {shlex.quote(str(tmp_path / 'hold'))} ]; do sleep 0.02; done"
    command = f'kind = "command"\ncommand = {json.dumps(["sh", "-c", wait])}\nexpected_s = 1.0'
    config = CONFIG.replace('kind = "stand-in"\nduration_s = 0.3', command)
    (tmp_path / "house.toml").write_text(config.replace("budget_s = 3.0", "budget_s = 50.0"))
    one = Host(tmp_path, loaded)
    yield one
    for process in one.started:
        if process.poll() is None:
            process.kill()
            process.communicate(timeout=10)


WEB1 = ("run", "--rollout", "r 1/ä", "web1")


def test_the_same_command_again_finds_what_was_done_and_pauses_nobody(host):
    """Another argument under that ID is refused; the record stays what it was."""
    first = host.run(*WEB1)
    again = host.run(*WEB1)
    assert (first.code, first.answer["outcome"], first.answer["already"]) == (0, "pass", False)
    assert (again.code, again.answer["outcome"], again.answer["already"]) == (0, "pass", True)
    assert again.answer["record"] == first.answer["record"]
    assert first.answer["record"]["rollout"] == first.answer["rollout"] == "r 1/ä"
    other = host.run(*WEB1, "--budget", "2s")
    assert other.code == 2
    assert "budget_s was not given, now 2.0" in other.answer["error"]["message"]
    assert host.run("run", "--rollout", "r 1/ä", "web2").code == 2
    assert len(host.runs) == 1


@pytest.mark.parametrize("how", [(), ("--detach",)], ids=["attached", "detached"])
def test_a_run_that_goes_on_is_waited_for(host, how):
    """Both get the one record; the second says who it waits for."""
    with host.updating():
        first = host.start(*WEB1, *how)
        host.until("paused")
        second = host.start(*WEB1)
        assert "goes on: run" in (told := second.stderr.readline())
        assert "paused: web1" in told
    found = ended(second)
    assert (found.code, found.answer["already"]) == (0, False)
    assert ended(first).answer["record"] == found.answer["record"]
    assert len(host.runs) == 1


def test_a_detached_run_outlives_its_command_and_the_terminal(host):
    """SIGHUP to all of the command's session; the same command finds the run, and it passed."""
    with host.updating():
        first = host.start(*WEB1, "--detach")
        runner = host.until("paused")
        assert os.getsid(runner) == runner != os.getsid(first.pid)
        os.killpg(first.pid, signal.SIGHUP)
        first.communicate(timeout=10)
        assert first.returncode == -signal.SIGHUP
    again = host.run(*WEB1)
    assert (again.code, again.answer["outcome"]) == (0, "pass")
    assert len(host.runs) == 1


def test_a_run_that_died_is_recovered_first(host):
    """The same command starts nothing, and says so, until ``recover`` has completed the record."""
    with host.updating():
        first = host.start(*WEB1)
        assert host.until("paused") == first.pid
        first.kill()
        first.communicate(timeout=10)
    again = host.run(*WEB1)
    assert (again.code, again.answer["error"]["type"]) == (3, "RunDied")
    assert "web1 may be paused" in again.answer["error"]["message"]
    assert again.answer["error"]["hint"] == "harness recover"
    assert len(host.runs) == 1


@pytest.mark.parametrize("how", [(), ("--detach",)], ids=["attached", "detached"])
def test_a_host_that_is_taken_is_not_now(host, monkeypatch, how):
    """5, and 3 without a rollout as ever; later the same command begins."""
    monkeypatch.setenv("HARNESS_LOCK_DIR", str(host.folder))
    with host_lock("fake:///", "a test"):
        refused = host.run(*WEB1, *how)
    assert (refused.code, refused.answer["outcome"]) == (5, "not-now")
    assert refused.answer["error"]["type"] == "HostBusy"
    assert host.runs == []
    assert host.run(*WEB1, *how).code == 0


def test_a_set_that_another_run_holds_is_not_now(host):
    """There is a record, of a run that paused nobody; so later the same command begins."""
    url = f"sqlite:///{host.folder / 'fleet.db'}"
    with (host.folder / "house.toml").open("a") as config:
        config.write(f'[fleet]\ndatabase = "{url}"\n[[guest]]\nname = "web1"\n')
        config.write('availability_set = "web"\n')
    fleet = FleetDatabase(url)
    take(fleet, ["web"], update_domain="1", run_id="x", host="other", seconds=600.0)
    refused = host.run(*WEB1)
    assert (refused.code, refused.answer["outcome"]) == (5, "not-now")
    assert refused.answer["error"]["type"] == "SetLeased"
    assert "on other, run x" in refused.answer["error"]["message"]
    assert refused.answer["record"]["exit_code"] == 3
    release(fleet, ["web"], "x")
    assert host.run(*WEB1).code == 0
    assert held(fleet) == []


def test_a_login_that_fails_has_a_record_and_may_be_tried_again(host):
    """No guest was paused, so nothing was done under that ID: other arguments too are allowed."""
    refused = host.run(*WEB1, wrong="login")
    assert (refused.code, refused.answer["outcome"]) == (3, "error")
    assert refused.answer["error"]["guest"] == "web1"
    assert refused.answer["record"]["guests"][0]["pause_window_s"] is None
    assert host.run(*WEB1, "--budget", "2s").code == 0


def test_a_guest_that_stays_paused_is_the_answer(host):
    """4, each time, until it is brought back."""
    for already in (False, True):
        found = host.run(*WEB1, wrong="stuck" if not already else "fine")
        assert (found.code, found.answer["outcome"]) == (4, "paused")
        assert found.answer["already"] is already
        assert found.answer["error"]["type"] == "GuestStranded"


@pytest.fixture
def command(host, monkeypatch, capsys) -> Callable[..., Answered]:
    """A command in this process, with a host of no guests but web1."""
    monkeypatch.chdir(host.folder)
    monkeypatch.setenv("HARNESS_STATE_DIR", str(host.folder / "state"))
    opened = FakeHost(FakeGuest("web1"))
    monkeypatch.setattr("harness.host.driver.LibvirtHypervisor.open", lambda *_: opened)

    def run(*arguments: str) -> Answered:
        code = run_command_line([*arguments, "--json"])
        printed = capsys.readouterr()
        answer = json.loads(printed.out)
        ANSWER.validate(answer)
        assert answer["exit_code"] == code
        return Answered(code, answer, printed.err)

    return run


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (("run", "--rollout", "r", "-c", "house.toml", "nobody"), "nobody"),
        (("run", "--rollout", "r", "--bugdet", "3"), "bugdet"),
        (("run", "--rollout=r", "--budget", "soon"), "--budget"),
        (("run", "--rollout", " "), "--rollout"),
        (("run", "--rollout", "r", "--update", "'"), "--update"),
        (("run", "--rollout", "r", "-c", "none.toml"), "none.toml"),
        (("plan", "--rollout", "r", "-c", "house.toml", "nobody"), "nobody"),
        (("plan", "--rollout", "\n", "-c", "house.toml"), "--rollout"),
    ],
)
def test_a_refusal_is_the_same_document(host, command, arguments, word):
    """Whatever refuses: click, the configuration, the plan."""
    refused = command(*arguments)
    assert (refused.code, refused.answer["outcome"]) == (2, Ending.REFUSED)
    error = refused.answer["error"]
    assert word in f"{error['message']} {error['where']} {error['guest']}", error
    assert host.runs == []


@pytest.mark.parametrize("words", [("plan",), ("run", "--dry-run")], ids=" ".join)
def test_a_plan_is_the_same_document_and_begins_nothing(host, command, words):
    """``plan`` takes what ``run`` takes."""
    found = command(
        *words, "-c", "house.toml", "--rollout", "r", "--detach", "--watch", "1s", "web1"
    )
    assert found.code == 0
    assert found.answer["record"] is None
    assert found.answer["plan"]["update_domains"][0]["guests"][0]["name"] == "web1"
    assert not (host.folder / "state" / "rollouts").exists()


def test_a_plan_tells_whether_a_run_would_only_tell_of_what_is_done(host):
    """A refusal binds nothing, so it is not done."""
    words = ("--rollout", "r", "web1")
    assert host.run("run", *words, wrong="login").code == 3
    assert host.run("plan", *words).answer["already"] is False
    assert host.run("run", *words).code == 0
    assert host.run("plan", *words).answer["already"] is True
    assert host.run("plan", "--rollout", "other", "web1").answer["already"] is False


def test_a_plan_of_what_goes_on_tells_so_and_is_not_refused_for_guests_that_it_has_paused(host):
    words = ("--rollout", "r", "web1")
    with host.updating():
        going_on = host.start("run", *words)
        host.until("paused")
        found = host.run("plan", *words)
        assert (found.code, found.answer["goes_on"], found.answer["plan"]) == (0, True, None)
    assert ended(going_on).code == 0
    found = host.run("plan", *words)
    assert (found.answer["goes_on"], found.answer["already"]) == (False, True)


def test_a_bug_and_a_person_who_interrupts_are_the_same_document(command, monkeypatch):
    """3 and 130."""
    for raised, code, ending in (
        (KeyError("bug"), 3, "error"),
        (KeyboardInterrupt(), 130, "interrupted"),
    ):

        def fail(*_: object, error: BaseException = raised) -> None:
            raise error

        monkeypatch.setattr("harness.host.driver.LibvirtHypervisor.open", fail)
        found = command("run", "--rollout", "r", "-c", "house.toml", "web1")
        assert (found.code, found.answer["outcome"]) == (code, ending)
