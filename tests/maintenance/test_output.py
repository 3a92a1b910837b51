"""What is printed never decides how a run ends: real processes, on a host in memory."""

from __future__ import annotations

import errno
import json
import os
import pty
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.core.records import Outcome, RunRecord
from harness.testing.updates import Meddling
from tests.maintenance.conftest import QUICK, events, verdicts
from tests.maintenance.forked import PIPE
from tests.maintenance.in_memory import DRIVER, HARNESS, in_folder

CONFIG = f"""
budget_s = 3.0
resume_reserve_s = 0.5
resume_patience_s = 0.5
prepare_timeout_s = 5.0
mend_timeout_s = 3.0
[update]
kind = "stand-in"
duration_s = 0.3
[clock]
slew_below_s = 0.0
[checks]
enable = {list(QUICK)!r}
"""
RUN = ("run", "web1", "web2", "--no-report", "-c", "house.toml")


@pytest.fixture
def interpreter(tmp_path):
    """``interpreter("fine", "--json", stdout=…)``: the exit code, and what was said on stderr."""
    (tmp_path / "house.toml").write_text(CONFIG)

    def run(
        wrong: str, *arguments: str, before: Callable[[], None] | None = None, **more: str
    ) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            [sys.executable, "-P", "-c", DRIVER, wrong, *RUN, *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            preexec_fn=before,
            cwd=tmp_path,
            env={**in_folder(tmp_path), **more},
            timeout=60,
        )

    return run


@pytest.fixture
def process(tmp_path, loaded):
    """The same, in a process that is forked."""
    (tmp_path / "house.toml").write_text(CONFIG)

    def run(
        wrong: str,
        *arguments: str,
        stdout: int = PIPE,
        stderr: int = PIPE,
        report: bool = False,
        **more: str,
    ) -> subprocess.CompletedProcess[bytes]:
        words = [word for word in RUN if not (report and word == "--no-report")]
        one = loaded.start(
            HARNESS,
            [wrong, *words, *arguments],
            folder=tmp_path,
            environment={**in_folder(tmp_path), **more},
            stdout=stdout,
            stderr=stderr,
        )
        out, said = one.communicate(timeout=60)
        return subprocess.CompletedProcess([wrong, *arguments], one.returncode, out, said)

    return run


def record_in(tmp_path: Path) -> RunRecord:
    """The record of the only run."""
    (found,) = tmp_path.glob("state/runs/*/run.json")
    return RunRecord.model_validate_json(found.read_text())


@pytest.mark.parametrize("wrong", ["stuck", "bug"])
def test_an_error_is_told_once(process, wrong):
    """Before the page is made; of a guest that is still paused it is the last word."""
    done = process(wrong)
    lines = [line for line in done.stderr.decode().splitlines() if line.startswith("harness: ")]
    assert len(lines) == 1, done.stderr.decode()
    if wrong == "stuck":
        assert lines[0].startswith("harness: STILL PAUSED: web1")
        assert done.stderr.decode().rstrip().endswith(lines[0])


def expect_a_good_end(tmp_path: Path) -> None:
    """Recorded, and the clocks were corrected."""
    record = record_in(tmp_path)
    assert (record.outcome, record.exit_code) == (Outcome.PASS, 0)
    assert all(guest.clock.after_correction is not None for guest in record.guests)


@pytest.mark.parametrize("output", [(), ("--json",)], ids=["table", "json"])
def test_an_encoding_without_the_characters_still_tells_who_is_paused(
    interpreter, tmp_path, output
):
    """Latin-1 has no en dash: that was exit code 1, and the loudest message was never said."""
    done = interpreter("stuck", *output, PYTHONIOENCODING="latin-1")
    assert done.returncode == 4, done.stderr.decode()
    assert b"STILL PAUSED: web1" in done.stderr
    # All of it, with an escape where it must be.
    said = str(json.loads(done.stdout)) if output else done.stdout.decode()
    assert "web1" in said
    assert ("\\u2013" in said) is not bool(output), said
    assert record_in(tmp_path).exit_code == 4


@pytest.mark.parametrize("output", [(), ("--json",)], ids=["table", "json"])
@pytest.mark.parametrize("number", [1, 2])
def test_a_closed_descriptor(interpreter, tmp_path, number, output):
    """``>&-`` and ``2>&-``; the next file opened must not get its number either."""
    assert interpreter("fine", *output, before=lambda: os.close(number)).returncode == 0
    expect_a_good_end(tmp_path)


@pytest.mark.parametrize("output", [(), ("--json",)], ids=["table", "json"])
@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_a_full_disk(process, tmp_path, stream, output):
    """``>/dev/full``: the run passed, so the exit code is 0."""
    full = os.open("/dev/full", os.O_WRONLY)
    try:
        done = process("fine", *output, **{stream: full})
    finally:
        os.close(full)
    assert done.returncode == 0
    expect_a_good_end(tmp_path)


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_a_reader_that_has_gone(process, tmp_path, stream):
    """A pipe whose other end is closed."""
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = process("fine", "--json", **{stream: writer})
    finally:
        os.close(writer)
    assert done.returncode == 0
    expect_a_good_end(tmp_path)


def test_a_reader_that_does_not_read(process, tmp_path):
    """A pager that nobody pages: progress is dropped rather than clocks left as they are."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    while True:
        try:
            os.write(writer, b"x" * 4096)
        except BlockingIOError:
            break
    os.set_blocking(writer, True)
    try:
        done = process("fine", "--json", stderr=writer)
    finally:
        os.close(writer)
        os.close(reader)
    assert done.returncode == 0
    expect_a_good_end(tmp_path)


def test_a_terminal_that_goes_away_under_the_live_view(process, tmp_path):
    """Its reader is gone in the middle of the run."""
    ours, theirs = pty.openpty()

    def close_when_it_draws() -> None:
        os.read(ours, 1)
        os.close(ours)

    closer = threading.Thread(target=close_when_it_draws)
    closer.start()
    try:
        done = process("fine", "--json", stderr=theirs, TERM="xterm")
    finally:
        os.close(theirs)
        closer.join(10)
    assert done.returncode == 0
    expect_a_good_end(tmp_path)


def test_a_bug_is_exit_code_3_with_its_class(interpreter, tmp_path):
    """Never 1, which says that a promise was broken; and the guests run."""
    done = interpreter("bug", "--json", PYTHONIOENCODING="ascii")
    assert done.returncode == 3
    assert b"KeyError" in done.stderr
    assert record_in(tmp_path).exit_code == 3


def test_a_result_that_nobody_gets_is_an_error():
    """Where printing it is all there is to do."""
    full = os.open("/dev/full", os.O_WRONLY)
    command = [sys.executable, "-P", "-m", "harness", "--help"]
    try:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, timeout=60)
    finally:
        os.close(full)
    assert done.returncode == 3
    assert os.strerror(errno.ENOSPC).encode() in done.stderr


class Unexpected(Exception):
    """No error of ours."""


@pytest.mark.parametrize("error", [Unexpected, SystemExit, KeyboardInterrupt, MemoryError])
def test_whatever_an_update_raises_is_an_error_of_the_update(house, error):
    """After the resume; and clocks are corrected all the same."""

    def fail() -> None:
        raise error("of the update's")

    at = house()
    update = Meddling(fail)
    finished = at.maintain("web1", update=update)
    (domain,) = finished.record.update_domains
    assert f"the update raised {error.__name__}: of the update's" in domain.problems[0]
    assert (finished.error, finished.record.exit_code) == (None, 3)
    (guest,) = finished.record.guests
    assert guest.clock.after_correction is not None
    assert verdicts(guest)["clock"] == "pass"
    assert at.running == ["web1", "web2"]
    assert update.calls[-1] == "rollback"
    assert events(finished)[-1] == "run finished"


@pytest.mark.parametrize(
    ("call", "said"),
    [
        ("verify", "Unexpected: a bug"),
        ("rollback", "Unexpected: a bug"),
        ("abandon", "the update was abandoned"),
    ],
)
def test_whatever_comes_after_an_update_costs_its_verdict_only(house, call, said):
    """Verify, rollback and abandon may have bugs as well."""
    at = house(budget_s=1.0)

    def work() -> None:
        if call == "abandon":
            threading.Event().wait(2)
        assert call == "verify", "no"

    finished = at.maintain("web1", update=Meddling(work, **{call: Unexpected("a bug")}))
    assert finished.record.exit_code == 3
    assert any(said in one for one in finished.record.update_domains[0].problems)
    assert finished.record.guests[0].clock.after_correction is not None
    assert at.running == ["web1", "web2"]


def test_a_bug_of_ours_leaves_a_record_and_a_run_to_be_recovered(house):
    """Nothing says that it finished: clocks are as the bug left them."""
    at = house()

    def bug() -> None:
        raise Unexpected("ours")

    at.host.before["pause", "web1"] = bug
    finished = at.maintain()
    assert finished.record.exit_code == 3
    assert "Unexpected: ours" in finished.record.problems[0]
    assert "run finished" not in events(finished)
    assert at.running == ["web1", "web2"]


def test_an_observer_that_raises_changes_nothing(house, monkeypatch):
    """Not even by a SystemExit, which a library makes of a broken pipe."""
    at = house()

    class Steps(list):
        def append(self, step) -> None:
            raise SystemExit(1)

    at.steps = Steps()
    assert at.maintain().record.exit_code == 0


SEVERAL = CONFIG.replace(
    "[update]\n",
    '[[update]]\nkind = "command"\ncommand = ["/bin/true"]\nexpected_s = 0.1\n[[update]]\n',
)


def test_two_windows_are_two_runs_and_one_record_for_programs(process, tmp_path):
    """The plan has both; what a program reads is one object, which names the run before it."""
    (tmp_path / "house.toml").write_text(SEVERAL)
    shown = process("fine", "--dry-run").stdout.decode()
    assert "window 1 of 2: command" in shown
    assert "window 2 of 2: stand-in" in shown
    plan = json.loads(process("fine", "--dry-run", "--json").stdout)
    assert plan["updates"] == [{"kind": "command", "command": ["/bin/true"]}]
    assert [one["update"]["kind"] for one in plan["later"]] == ["stand-in"]
    done = process("fine", "--json")
    assert done.returncode == 0, done.stderr.decode()
    second = json.loads(done.stdout)
    first = tmp_path / "state/runs" / second["follows"] / "run.json"
    assert [json.loads(first.read_text())["update"]["kind"], second["update"]["kind"]] == [
        "command",
        "stand-in",
    ]
    told = process("fine").stdout.decode()
    runs = [one.parent.name for one in tmp_path.glob("state/runs/*/run.json")]
    assert len([run for run in runs if run in told]) == 2, told


def test_a_flag_for_one_update_is_refused_beside_several(process, tmp_path):
    """Nothing is paused; ``--kind`` chooses one."""
    (tmp_path / "house.toml").write_text(SEVERAL)
    done = process("fine", "--duration", "1")
    assert done.returncode == 2
    assert "--duration: is for one update, but 2 are configured" in done.stderr.decode()
    assert process("fine", "--kind", "stand-in", "--duration", "0.1").returncode == 0
    assert record_in(tmp_path).update.kind == "stand-in"


def test_an_error_is_told_before_the_page_and_not_twice(process):
    """A line about a page after it says that the run is over, not that all is well."""
    done = process("bug", report=True)
    said = done.stderr.decode()
    assert done.returncode == 3
    assert said.count("a bug \u2013") == 1, said
    assert said.index("a bug \u2013") < said.index("report:     "), said
