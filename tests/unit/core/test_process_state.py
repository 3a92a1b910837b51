"""Real processes that inherit what no parent should hand down."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys

import pytest

from harness.core.process_state import python_module

#: Prints what a process of ours is like after it has settled.
REPORT = """
import json, os, resource, signal, sys
from harness.core.process_state import settle_process
warnings = settle_process()
print(json.dumps({
    "warnings": warnings,
    "child": signal.getsignal(signal.SIGCHLD) is signal.SIG_DFL,
    "alarm": signal.getsignal(signal.SIGALRM) is signal.SIG_DFL,
    "hangup": signal.getsignal(signal.SIGHUP) is signal.SIG_DFL,
    "terminal": signal.getsignal(signal.SIGTTOU) is signal.SIG_IGN,
    "blocked": [int(one) for one in signal.pthread_sigmask(signal.SIG_BLOCK, ())],
    "timer_s": signal.getitimer(signal.ITIMER_REAL)[0],
    "umask": os.umask(0),
    "files": resource.getrlimit(resource.RLIMIT_NOFILE)[0],
    "file_size": resource.getrlimit(resource.RLIMIT_FSIZE)[0],
    "path": os.environ.get("PATH"),
    "folder": os.getcwd(),
    "next": os.open("/dev/zero", os.O_RDONLY),
    "encoding": sys.stdout.encoding,
}))
"""


def settled(tmp_path, before=lambda: None, **options) -> dict:
    """How a process is that inherits what ``before`` does."""
    environment = {**os.environ, **options.pop("env", {})}
    done = subprocess.run(
        [sys.executable, "-P", "-c", REPORT],
        preexec_fn=before,
        restore_signals=False,
        capture_output=True,
        text=True,
        timeout=60,
        cwd=options.pop("cwd", tmp_path),
        env=environment,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def ignore(*numbers: signal.Signals):
    def before() -> None:
        for number in numbers:
            signal.signal(number, signal.SIG_IGN)

    return before


def test_dispositions(tmp_path):
    """Children are waited for whatever the parent thinks of them; what nohup ignores stays so."""
    found = settled(tmp_path, ignore(signal.SIGCHLD, signal.SIGALRM, signal.SIGHUP))
    assert found["child"]
    assert found["alarm"]
    assert found["terminal"]
    assert not found["hangup"]


def test_blocked_signals_and_timers(tmp_path):
    """TERM would never arrive; an alarm of the parent's would kill us."""

    def before() -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGCHLD})
        signal.setitimer(signal.ITIMER_REAL, 30)

    found = settled(tmp_path, before)
    assert found["blocked"] == []
    assert found["timer_s"] == 0


@pytest.mark.parametrize(("inherited", "kept"), [(0o000, 0o022), (0o077, 0o077), (0o002, 0o022)])
def test_umask(tmp_path, inherited, kept):
    """Never writable for others; never more readable than the parent wants."""
    assert settled(tmp_path, lambda: os.umask(inherited))["umask"] == kept


def test_limits(tmp_path):
    """Few descriptors, and files that may not grow: the journal is one."""

    def before() -> None:
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (40, hard))
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))

    found = settled(tmp_path, before)
    assert found["files"] >= min(4096, resource.getrlimit(resource.RLIMIT_NOFILE)[1])
    assert found["file_size"] == resource.RLIM_INFINITY


@pytest.mark.parametrize("closed", [(0,), (0, 2)])
def test_no_file_gets_the_number_of_a_closed_descriptor(tmp_path, closed):
    """Else what is printed ends up in the journal."""

    def before() -> None:
        for number in closed:
            os.close(number)

    assert settled(tmp_path, before)["next"] > 2


def test_a_folder_that_is_gone(tmp_path):
    """Said, and survived: ``harness recover`` needs no folder."""
    gone = tmp_path / "gone"
    gone.mkdir()

    found = settled(tmp_path, lambda: os.rmdir(gone), cwd=gone)
    assert found["folder"] == "/"
    assert "does not exist any more" in found["warnings"][0]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root must not run what lies in a folder")
def test_programs_are_not_looked_for_in_the_current_folder(tmp_path):
    """An empty entry of PATH is the current folder, too."""
    found = settled(tmp_path, env={"PATH": ":/usr/bin:.:bin:/bin:"})
    assert found["path"] == "/usr/bin:/bin"


def test_an_encoding_that_lacks_a_character(tmp_path):
    """What is said is said, with an escape where it must be."""
    code = (
        "from harness.core.process_state import settle_process; settle_process()\n"
        "print('a \\u2013 b')"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", code],
        capture_output=True,
        timeout=60,
        env={**os.environ, "PYTHONIOENCODING": "latin-1"},
    )
    assert (done.returncode, done.stdout) == (0, b"a \\u2013 b\n")


@pytest.mark.parametrize("module", ["harness", "harness.results.publish"])
def test_nothing_of_the_current_folder_is_run(tmp_path, module):
    """Every module that such a process may import, laid beside it by somebody else."""
    trap = f"open({str(tmp_path / 'run')!r}, 'a').write(__name__ + '\\n')\n"
    for name in ("json", "dataclasses", "click", "logging", "socket", "signal", "pydantic"):
        (tmp_path / f"{name}.py").write_text(trap)
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONSAFEPATH"}
    environment["HARNESS_STATE_DIR"] = str(tmp_path / "state")
    commands = [python_module(module, "--help")]
    if module == "harness":  # as a person types it, who does not know of -P
        commands.append([sys.executable, "-m", module, "--help"])
    for command in commands:
        subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, timeout=60, check=False
        )
    assert not (tmp_path / "run").exists(), (tmp_path / "run").read_text()
