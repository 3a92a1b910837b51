"""`harness status` as a real process: watched on a terminal, and where libvirt does not answer."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from harness.host.lock import host_lock
from tests.terminal import CTRL_C, on_a_terminal

HARNESS = [sys.executable, "-P", "-m", "harness"]


@pytest.fixture
def environment(tmp_path, monkeypatch):
    """A machine on which nothing has run yet, and nobody else's locks."""
    monkeypatch.setenv("HARNESS_LOCK_DIR", str(tmp_path))
    monkeypatch.setenv("HARNESS_STATE_DIR", str(tmp_path / "state"))
    return dict(os.environ)


@pytest.mark.libvirt
def test_what_changes_is_shown_while_it_is_watched(environment, tmp_path):
    """Ctrl-C ends it: no failure, no traceback, and the cursor is there again."""
    uri = "test:///default"
    words = [*HARNESS, "status", "--watch", "--uri", uri]
    with on_a_terminal(words, tmp_path, environment) as terminal:
        terminal.until(f"{uri} is free")
        with host_lock(uri, "flashing the BMC"):
            terminal.until("flashing the BMC")
        terminal.type(CTRL_C)
        assert terminal.end() == 0
    assert "Traceback" not in terminal.text
    assert "interrupted" not in terminal.text
    assert terminal.raw.rstrip().endswith("\x1b[?25h")


@pytest.mark.libvirt
def test_a_watcher_for_programs_prints_a_line_a_look(environment, tmp_path):
    words = [*HARNESS, "status", "--watch", "--json", "--uri", "test:///default"]
    with on_a_terminal(words, tmp_path, environment, columns=10_000) as terminal:
        terminal.until("\n", times=2)
        terminal.type(CTRL_C)
        assert terminal.end() == 0
    first = json.loads(terminal.text.splitlines()[0])
    assert (first["holder"], first["reached"]) == (None, True)


@pytest.mark.libvirt
def test_a_host_whose_libvirt_does_not_answer_is_not_called_free(environment, tmp_path):
    """Nobody has looked; what is known is that no run holds it."""
    uri = f"qemu+unix:///system?socket={tmp_path}/gone"
    done = subprocess.run(
        [*HARNESS, "status", "--uri", uri],
        capture_output=True,
        text=True,
        env=environment,
        cwd=tmp_path,
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == 3
    first = done.stdout.splitlines()[0]
    assert first == f"{uri}: libvirt was not reached; no run holds this host"
    assert "is free" not in done.stdout
    assert "no guest is paused" not in done.stdout
