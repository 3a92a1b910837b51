"""``harness nightly`` as a process: files of the night before do not outlive one that is refused.

No guest is paused: libvirt's test driver, or a libvirt that never answers.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

GREEN = '<testsuites name="last night" tests="1" failures="0" errors="0"/>'


class Nightly:
    """One folder with last night's files in it, and the command."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.junit, self.metrics = folder / "j.xml", folder / "h.prom"
        self.junit.write_text(GREEN)
        self.metrics.write_text('harness_run_success{host="box"} 1.0\n')

    def start(self, *words: str) -> subprocess.Popen[str]:
        files = ("--junit", "j.xml", "--prometheus", "h.prom")
        here = {"HOME": str(self.folder), "HARNESS_STATE_DIR": str(self.folder / "state")}
        return subprocess.Popen(
            [sys.executable, "-m", "harness", "nightly", *files, "--repeat", "1", *words],
            cwd=self.folder,
            env={**os.environ, **here, "HARNESS_LOCK_DIR": str(self.folder)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def expect_red(self, exit_code: int, said: str) -> None:
        """Both are of tonight, and bad."""
        metrics = self.metrics.read_text()
        assert re.search(r"^harness_run_success\{.*\} 0\.0$", metrics, re.MULTILINE), metrics
        assert re.search(
            rf"^harness_night_exit_code\{{.*\}} {exit_code}\.0$", metrics, re.MULTILINE
        )
        errors = [one.get("message") for one in ET.parse(self.junit).iter("error")]
        assert any(said in error for error in errors), errors


@pytest.fixture
def night(tmp_path):
    return Nightly(tmp_path)


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("--uri", "test:///default", "nobody"), 2, "nobody"),
        (("--uri", "nosuch:///x", "web1"), 3, "libvirt: "),
        (("--budgt", "10", "web1"), 2, "--budgt"),
        (("--repeat", "0"), 2, "--repeat"),
        (("-c", "missing.toml", "web1"), 2, "missing.toml"),
        (("--uri", "test:///default", "--budget", "1", "web1"), 2, "budget"),
    ],
)
def test_a_night_that_is_refused_replaces_both_files(night, words, code, said):
    """By doctor, the plan, the command line or the configuration; the exit code is in them."""
    ended = night.start(*words)
    stdout, stderr = ended.communicate(timeout=60)
    assert ended.returncode == code, stdout + stderr
    night.expect_red(code, said)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_signal_while_nothing_answers_replaces_both_files(night, number):
    """doctor waits for a libvirtd that never answers; the night ends with 130."""
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(night.folder / "libvirt"))
        silent.listen()
        running = night.start("--uri", f"qemu+unix:///system?socket={night.folder}/libvirt", "web1")
        try:
            with _asked(silent):
                running.send_signal(number)
                _, stderr = running.communicate(timeout=60)
        finally:
            running.kill()
            running.wait()
    assert running.returncode == 130, stderr
    night.expect_red(130, "interrupted")


def test_a_night_that_is_killed_leaves_no_green_junit(night):
    """Nobody could write anything any more; it was red from the beginning."""
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(night.folder / "libvirt"))
        silent.listen()
        running = night.start("--uri", f"qemu+unix:///system?socket={night.folder}/libvirt", "web1")
        with _asked(silent):
            running.kill()
            running.communicate(timeout=60)
    errors = [one.get("message") for one in ET.parse(night.junit).iter("error")]
    assert any("has not ended" in error for error in errors)


def _asked(silent: socket.socket) -> socket.socket:
    """Return the connection of whoever asks; it is never answered."""
    silent.settimeout(60)
    return silent.accept()[0]
