"""A rollout's part whose run ended with its kernel: the same command waits for the next one.

Real processes; the journal is one that a run leaves which was handed over.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import pytest

from harness.core.errors import RunDied
from harness.core.identity import boot_id
from harness.core.records import Outcome
from harness.core.timebase import Deadline, NotYet, wait_for
from harness.results.folder import RunFolder
from harness.results.journal import Journal, Member, entries
from harness.results.rollout import Asked, Attempt, RolloutFolder
from harness.testing.runs import a_run

HARNESS = str(Path(sys.executable).with_name("harness"))
RUN = "20260101T020000Z-aaaaaa"
GUEST = ("web1", "uuid-web1")
UNFINISHED = a_run().model_copy(
    update={"finished_at": None, "guests": (), "rollout": "r1", "exit_code": 3}
)


@dataclass
class Host:
    """A state folder; ``boot`` is that of the kernel that was left."""

    folder: Path
    boot: str = "another"

    @property
    def run(self) -> RunFolder:
        return RunFolder(self.folder / "state" / "runs" / RUN)

    def hand_over(self) -> None:
        part = RolloutFolder(self.folder / "state", "r1")
        part.path.mkdir(parents=True)
        part.begin(Attempt(rollout="r1", asked=Asked(guests=("web1",)), run_ids=(RUN,)))
        self.run.path.mkdir(parents=True)
        self.run.write_record(UNFINISHED)
        with Journal(self.run.path, RUN) as journal:
            for one in (
                entries.RunStarted(boot_id=self.boot, guests=("web1",)),
                entries.Pausing((Member(*GUEST),)),
                entries.Paused(*GUEST),
                entries.HandingOver(*GUEST, release="6.12"),
                entries.Leaving("6.12", self.boot),
            ):
                journal.intend(one)

    def start(self, *words: str) -> subprocess.Popen[str]:
        with open(self.folder / "said", "a") as said:
            return self._start(said, *words)

    def _start(self, said: IO[str], *words: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [HARNESS, "run", "--rollout", "r1", "--json", *(words or ("web1",))],
            env={**os.environ, "HARNESS_STATE_DIR": str(self.folder / "state"), "HOME": "/none"},
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=said,
            text=True,
        )

    @contextmanager
    def recovering(self, outcome: Outcome = Outcome.PASS) -> Iterator[None]:
        """`harness recover` is at work; at the end of the block it has finished the run."""
        with Journal(self.run.path, RUN) as journal:
            yield
            self._finish(journal, outcome)

    @contextmanager
    def tidying(self) -> Iterator[None]:
        """`harness recover` has finished the run; at the end of the block it ends, too."""
        with Journal(self.run.path, RUN) as journal:
            self._finish(journal, Outcome.PASS)
            yield

    def _finish(self, journal: Journal, outcome: Outcome) -> None:
        self.run.write_record(a_run(outcome=outcome).model_copy(update={"rollout": "r1"}))
        journal.intend(entries.Recovered({"web1": "runs"}))

    def until_it_waits(self) -> None:
        def look() -> None:
            if "finishes run" not in (self.folder / "said").read_text():
                raise NotYet("it does not")

        wait_for(look, what="the command to wait", deadline=Deadline.after(30))


@pytest.fixture
def host(tmp_path) -> Host:
    found = Host(tmp_path)
    found.hand_over()
    return found


def answer(process: subprocess.Popen[str]) -> tuple[int, dict[str, Any]]:
    out, _ = process.communicate(timeout=60)
    return process.returncode, json.loads(out)


@pytest.mark.parametrize(("outcome", "code"), [(Outcome.PASS, 0), (Outcome.FAIL, 1)])
def test_the_same_command_waits_for_the_next_kernel_to_finish_the_run(host, outcome, code):
    """It began before this command, and has ended after it: it is not `already` over."""
    with host.recovering(outcome):
        process = host.start()
        host.until_it_waits()
    returned, said = answer(process)
    assert (returned, said["exit_code"], said["outcome"]) == (code, code, outcome.value)
    assert (said["already"], said["error"]) == (False, None)
    assert said["record"]["run_id"] == RUN


def test_who_has_finished_the_run_is_waited_for_until_it_ends(host):
    """It still makes the report: not "goes on, ask again", for which it is too late a moment."""
    with host.tidying():
        process = host.start()
        host.until_it_waits()
    returned, said = answer(process)
    assert (returned, said["error"]) == (0, None)


def test_a_run_that_the_next_kernel_has_finished_is_found(host):
    with host.recovering():
        pass
    returned, said = answer(host.start())
    assert (returned, said["already"], said["error"]) == (0, True, None)


def test_other_arguments_are_refused_while_it_is_finished(host):
    with host.recovering():
        returned, said = answer(host.start("web2"))
    assert (returned, said["error"]["type"]) == (2, "UsageError")


def test_of_two_commands_that_wait_the_second_is_told_that_it_goes_on(host):
    with host.recovering():
        first = host.start()
        host.until_it_waits()
        second = host.start()
    assert [answer(one)[0] for one in (first, second)] == [0, 0]


def test_a_boot_that_does_not_finish_it_is_reported(host, monkeypatch):
    """This machine has been up for longer than a boot takes, or the test says so."""
    from harness.cli import rollout

    monkeypatch.setattr(rollout, "_NEXT_KERNEL_S", 0.0)
    folder = RolloutFolder(host.folder / "state", "r1")
    assert rollout._await_next_kernel(folder, Asked(guests=("web1",))) is False
    with pytest.raises(RunDied, match="handed over to another kernel.*not finished it"):
        folder.done(Asked(guests=("web1",)))


def test_a_run_that_died_while_its_kernel_was_left_is_not_waited_for(tmp_path):
    """Its boot is still this one: no other kernel will finish it."""
    host = Host(tmp_path, boot=boot_id())
    host.hand_over()
    returned, said = answer(host.start())
    assert (returned, said["error"]["type"]) == (3, "RunDied")
    assert "harness recover" in said["error"]["hint"]
