"""The commands that pages show in their blocks do what they say: run, on a host in memory.

What is not run here is named with the reason, and with the test that runs it elsewhere.
"""

from __future__ import annotations

import json
import re
from contextlib import nullcontext

import pytest

from harness import api
from harness.cli.main import run_command_line
from harness.results import publish
from harness.results.folder import RunFolder, all_runs
from harness.testing.guard import FakeGuard
from tests.maintenance.conftest import QUICK
from tests.shown import PAGES, ROOT, shown

#: What a command has in it → the test that runs it, and why it cannot be run in memory.
ELSEWHERE = {
    ("adopt",): ("tests/drills/test_adopt.py", "moves the RAM of a real QEMU"),
    ("doctor",): ("tests/drills/test_death.py", "looks at this machine"),
    ("events",): ("tests/contract/test_events_commands.py", "a server, and events of it"),
    ("experiment",): ("tests/guest/test_nights.py", "a sweep file"),
    ("fleet",): ("tests/contract/test_rollouts.py", "plans of other hosts"),
    ("history", "verdict"): ("tests/contract/test_history.py", "the runs of a fortnight"),
    ("hold",): ("tests/guest/test_nights.py", "a process in the background"),
    ("init",): ("tests/guest/test_first_hour.py", "known_hosts of real guests"),
    ("lab",): ("tests/guest/test_lab.py", "boots guests"),
    ("lock", "--hold"): ("tests/drills/test_others.py", "a process in the background"),
    ("nightly",): ("tests/guest/test_nights.py", "several runs"),
    ("report", "--open"): ("tests/unit/results/test_publish.py", "starts a browser"),
    ("run", "--notify"): ("tests/guest/test_events.py", "guests that poll"),
    ("setup-host",): ("tests/kvm/test_qemu_by_apt.py", "changes the host"),
    ("status", "--watch"): ("tests/contract/test_status.py", "does not end by itself"),
    ("trust",): ("tests/contract/test_host_keys.py", "keys of a real sshd"),
}
#: Exit codes that are not 0, and why.
FAILING: dict[tuple[str, ...], int] = {
    ("run", "--no-correct"): 1,  # clocks are left as the pause left them
}
_LONG = re.compile(r"\d+s$")


def in_blocks() -> list[tuple[str, ...]]:
    """Return every command of harness that a block shows, once, without its first word."""
    found = {
        one.words[1:]: None
        for page in PAGES
        for one in shown(page)
        if one.words[0] == "harness" and len(one.words) > 1 and not one.in_a_sentence
    }
    return list(found)


def elsewhere(words: tuple[str, ...]) -> tuple[str, ...] | None:
    """Return what in a command has it run elsewhere; None if it is run here."""
    return next(
        (one for one in ELSEWHERE if one[0] == words[0] and set(one[1:]) <= set(words)), None
    )


def test_what_is_not_run_here_is_shown_and_run_by_the_test_that_is_named():
    every = in_blocks()
    assert {one for words in every if (one := elsewhere(words))} == set(ELSEWHERE)
    for words, (file, _) in ELSEWHERE.items():
        text = (ROOT / file).read_text()
        assert [word for word in words if not _typed_in(text, word)] == [], file
    assert sum(elsewhere(words) is None for words in every) > 20


def _typed_in(text: str, word: str) -> bool:
    """Return whether a test types a word: in a list of arguments, or in a line for a shell."""
    return bool(re.search(rf'"{word}"|\bharness (?:[^"\n]* )?{word}\b', text))


def reports_of(folder: RunFolder) -> list[str]:
    """Make a run's reports as its own process does, in this one: that is loaded already."""
    return [] if publish.main([str(folder.path)]) == 0 else ["reports failed"]


@pytest.fixture
def typed(house, tmp_path, monkeypatch):
    """Type a command of a page; two runs are there, and guests by the names that pages use."""
    ours = house("web1", "web2", "web9", "lab-1")
    there = api.Backend(
        lambda config: nullcontext(ours.host), ours.connector, guardian=lambda *_: FakeGuard()
    )
    monkeypatch.setattr(api.Backend, "real", lambda: there)
    monkeypatch.setattr(publish, "finish", reports_of)
    monkeypatch.setattr("harness.core.paths.known_state_dirs", lambda: ())
    monkeypatch.setenv("HARNESS_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("HARNESS_CLOCK_TOLERANCE_S", "0.03")
    monkeypatch.chdir(tmp_path)
    script = tmp_path / "apply-patch.sh"
    script.write_text("#!/bin/sh\n")
    script.chmod(0o755)
    (tmp_path / "harness.toml").write_text(
        f'uri = "fake:///"\nupdate.duration_s = 0.1\nchecks.enable = {json.dumps(QUICK)}\n'
        'clock.slew_below_s = 0.0\n[[guest]]\nname = "web1"\n'
    )
    for _ in range(2):
        assert run_command_line(["run"]) == 0
    ids = [folder.run_id for folder in all_runs(tmp_path / "state")]

    def type_it(words: tuple[str, ...]) -> int:
        runs = iter(ids)
        said = []
        for word in words:
            if re.fullmatch(r"[0-9a-f]{6}", word):
                word = next(runs)  # an id that the page made up
            elif word == "GUEST":
                word = "web1"
            elif word.startswith("/var/"):
                word = str(tmp_path / "written.prom")
            elif _LONG.fullmatch(word):
                word = "50ms"  # what takes a minute for a reader
            said.append(word)
        return run_command_line(said)

    return type_it


def test_every_command_of_a_block_does_what_it_says(typed, capsys):
    """The exit code that the page tells of, no failure besides, and something printed."""
    wrong = []
    for words in in_blocks():
        if elsewhere(words) is None:
            code = typed(words)
            said = capsys.readouterr()
            failed = "Traceback" in said.err or "reports failed" in said.err
            if code != FAILING.get(words, 0) or not said.out or failed:
                wrong.append((" ".join(words), code, said.err[-300:]))
    assert wrong == []
