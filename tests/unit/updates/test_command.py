"""Updates that are commands: real, small processes; no root, no guests."""

from __future__ import annotations

import json
import os
import shlex
import signal
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from harness.core.errors import ConfigError, UpdateFailed, UpdateOverran
from harness.core.settings import Scope
from harness.core.timebase import Deadline, NotYet, Stopwatch, wait_for
from harness.host import child_process, process_family
from harness.updates.command import CommandSettings, CommandUpdate
from harness.updates.protocol import UpdateContext

EVIL = "a; touch x"
#: Every wait in here ends by then; none of them should come near it.
PATIENCE_S = 20.0


@pytest.fixture
def context(tmp_path):
    """An update domain of two guests, one with a name that a shell would obey.

    A run id of its own: processes of an update are known by it.
    """
    run_dir = tmp_path / "run"
    run_dir.mkdir()
    run_id = f"run-{tmp_path.name}-{os.getpid()}"  # other sessions run this too
    return UpdateContext(run_id, run_dir, "../0", (EVIL, "web1"), tmp_path, 30.0)


@pytest.fixture
def script(tmp_path):
    """Write an executable file and return its path."""

    def write(body: str, name: str = "update", interpreter: str = "/bin/sh") -> str:
        path = tmp_path / name
        path.write_text(f"#!{interpreter}\n{body}\n")
        path.chmod(0o755)
        return str(path)

    return write


def patience() -> Deadline:
    return Deadline.after(PATIENCE_S)


def command(*words: str, **settings) -> CommandUpdate:
    return CommandUpdate(CommandSettings(command=words, **settings))


def gone(pid: int) -> bool:
    """Whether the process has ended; a zombie that only waits for its parent has."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except FileNotFoundError:
        return True


def wait_until_written(file: Path) -> str:
    """The content of a file that somebody else is about to write."""

    def look() -> str:
        text = file.read_text() if file.exists() else ""
        if not text.endswith("\n"):
            raise NotYet(f"{file} is not complete")
        return text

    return wait_for(look, what=f"writing {file}", deadline=patience(), interval_s=0.01)


def test_a_command_that_succeeds_is_applied_and_its_output_kept(context, script):
    """Status 0 means applied; stdout and stderr are in a private file of the run folder."""
    update = command(script("echo out; echo err >&2"))
    update.prepare(context, patience())
    applied = update.apply(context, patience())
    assert applied.returncode == 0
    assert applied.output == context.run_dir / "update-..%2F0.log"
    assert sorted(applied.output.read_text().split()) == ["err", "out"]
    assert applied.output.stat().st_mode & 0o077 == 0


def test_a_budget_of_many_days_is_waited_for(context, script):
    """poll() counts milliseconds in a C int; guests are paused when a command is waited for."""
    assert command(script("exit 0")).apply(context, Deadline.after(3e6)).returncode == 0


def test_the_command_sees_its_environment_and_no_input(context, script, monkeypatch):
    """HARNESS_* says what is updated, guest names are JSON data, and stdin is empty."""
    monkeypatch.setenv("INHERITED", "yes")
    update = command(script("cat; env"), "--now", EVIL)
    deadline = patience()
    text = update.apply(context, deadline).output.read_text()
    seen = dict(line.split("=", 1) for line in text.splitlines() if "=" in line)
    assert json.loads(seen["HARNESS_GUESTS"]) == [EVIL, "web1"]
    assert seen["HARNESS_RUN_ID"] == context.run_id
    assert seen["HARNESS_RUN_DIR"] == str(context.run_dir)
    assert seen["HARNESS_UPDATE_DOMAIN"] == "../0"
    assert seen["HARNESS_BUDGET_S"] == "30"
    assert 0 < float(seen["HARNESS_DEADLINE_S"]) <= PATIENCE_S
    assert seen["INHERITED"] == "yes"


def test_arguments_reach_the_command_unchanged(context, script, tmp_path, monkeypatch):
    """No shell reads the arguments, so one that looks like a command is only a word."""
    monkeypatch.chdir(tmp_path)
    update = command(script('printf "%s|" "$@"'), EVIL, "$(touch y)", "")
    assert update.apply(context, patience()).output.read_text() == f"{EVIL}|$(touch y)||"
    assert not Path("x").exists()
    assert not Path("y").exists()


def test_a_failing_command_is_an_error_with_its_status(context, script):
    """A status other than 0 is UpdateFailed, naming the status and where the output is."""
    with pytest.raises(UpdateFailed, match="ended with status 3.*its output is in") as caught:
        command(script("exit 3")).apply(context, patience())
    assert caught.value.returncode == 3


def test_a_command_that_dies_of_a_signal_says_so(context, script):
    """A signal is UpdateFailed too, with the negative number as its status."""
    with pytest.raises(UpdateFailed, match="died of signal 9") as caught:
        command(script("kill -9 $$")).apply(context, patience())
    assert caught.value.returncode == -9


@pytest.mark.parametrize("key", ["command", "verify", "rollback"])
def test_what_cannot_be_started_is_refused_before_any_pause(context, script, tmp_path, key):
    """Each of the three commands is checked by prepare, and the error names its key."""
    good = script("exit 0")
    plain = tmp_path / "plain"
    plain.write_text("#!/bin/sh\n")
    plain.chmod(0o644)
    bad = {
        "no such program": "/nonexistent/update",
        "is not a file": str(tmp_path),
        "is not executable": str(plain),
        "interpreter '/nonexistent/sh' is missing": script("", "a", "/nonexistent/sh"),
        "interpreter 'nonexistent-sh' is missing": script("", "b", "/usr/bin/env nonexistent-sh"),
        "interpreter '' is missing": script("", "c", ""),
        "NUL": "up\0date",
    }
    for reason, program in bad.items():
        settings: dict[str, Any] = {"command": (good,), key: (program,)}
        update = CommandUpdate(CommandSettings(**settings))
        with pytest.raises(ConfigError, match=reason) as caught:
            update.prepare(context, patience())
        assert caught.value.key == f"update.{key}"


def test_root_refuses_a_program_that_anybody_can_change(context, script, monkeypatch):
    """World-writable is refused for root, and only for root."""
    program = script("exit 0")
    os.chmod(program, 0o757)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    command(program).prepare(context, patience())
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setenv("SUDO_UID", str(os.getuid()))  # whose files these are
    with pytest.raises(ConfigError, match="can be changed by any user.*chmod o-w"):
        command(program).prepare(context, patience())


def test_a_program_is_found_on_the_path(context):
    """A bare name is looked up as a shell would."""
    update = command("true")
    update.prepare(context, patience())
    assert update.apply(context, patience()).returncode == 0


def test_no_command_is_a_configuration_error():
    """Kind command without a command names the key and shows how to give one."""
    with pytest.raises(ConfigError, match="update.command: .*--update"):
        command()


def test_a_program_that_vanished_after_prepare_is_an_update_error(context, script):
    """What disappears between the check and the pause is UpdateFailed, not a traceback."""
    program = script("exit 0")
    update = command(program)
    update.prepare(context, patience())
    os.unlink(program)
    with pytest.raises(UpdateFailed, match="cannot start"):
        update.apply(context, patience())


def test_an_overrun_ends_the_whole_tree(context, script, tmp_path, monkeypatch):
    """At the deadline everything is ended: TERM ignored, own session, scrubbed environment."""
    monkeypatch.setattr(process_family, "GRACE_S", 0.2)
    daemon = shlex.join([sys.executable, "-S", "-c", DAEMON])
    update = command(
        script(
            f"trap '' TERM\ncd {shlex.quote(str(tmp_path))}\n"
            f"{daemon} &\n"
            "env -i setsid /bin/sh -c 'echo $$ >scrubbed; while :; do sleep 60; done' &\n"
            "echo $$ >leader\nwhile :; do sleep 60; done"
        )
    )
    files = [tmp_path / name for name in ("leader", "daemon", "scrubbed")]
    with ThreadPoolExecutor(1) as pool:
        applying = pool.submit(update.apply, context, patience())
        pids = [int(wait_until_written(file)) for file in files]
        update.abandon()
        update.rollback(context, patience())
        assert all(gone(pid) for pid in pids)
        assert isinstance(applying.exception(PATIENCE_S), UpdateFailed)


#: Forks twice and leaves the session, as daemons do; ignores TERM and keeps stdout open.
DAEMON = """
import os, signal, time
if os.fork(): os._exit(0)
os.setsid()
if os.fork(): os._exit(0)
signal.signal(signal.SIGTERM, signal.SIG_IGN)
with open("daemon", "w") as file: print(os.getpid(), file=file)
time.sleep(60)
"""


def test_abandoning_does_not_wait(context, script, monkeypatch):
    """abandon returns while the update is still being ended: guests are waiting to be resumed."""
    returned = threading.Event()
    really_end = process_family.Family.end
    in_time = []

    def end_later(self, reap):
        in_time.append(returned.wait(PATIENCE_S))
        really_end(self, reap)

    monkeypatch.setattr(process_family.Family, "end", end_later)
    update = command(script("exec sleep 60"))
    with pytest.raises(UpdateOverran):
        update.apply(context, Deadline.after(0.05))
    returned.set()
    update.rollback(context, patience())
    assert in_time == [True]


def test_the_deadline_is_kept_by_apply_itself(context, script):
    """A command that still runs at the deadline is UpdateOverran; abandoned, nothing is left."""
    update = command(script("exec sleep 60"))
    watch = Stopwatch()
    with pytest.raises(UpdateOverran, match=r"did not end within 0\.3 s"):
        update.apply(context, Deadline.after(0.3))
    assert 0.3 <= watch.elapsed_s() < 10
    assert update._runner._running._ender is None  # the guests come first
    assert update._runner._running.survivors(Deadline.after(0))
    update.abandon()
    assert not update._runner._running.survivors(patience())


def test_a_command_abandoned_before_it_starts_is_not_started(context, script, tmp_path):
    """An interruption may come before the worker thread has got anywhere."""
    update = command(script(f"touch {shlex.quote(str(tmp_path / 'started'))}"))
    update.prepare(context, patience())
    update.abandon()
    with pytest.raises(UpdateFailed, match="abandoned before .* was started"):
        update.apply(context, patience())
    assert not (tmp_path / "started").exists()
    update.prepare(context, patience())
    assert update.apply(context, patience()).returncode == 0, "the next domain is not abandoned"


def test_a_command_abandoned_while_it_starts_is_ended(context, script, monkeypatch):
    """abandon may come when the process exists but is not known yet; it is ended all the same."""
    update = command(script("exec sleep 60"))
    really_open = os.pidfd_open

    def abandoned_meanwhile(pid):
        monkeypatch.undo()
        assert not gone(pid)
        update.abandon()
        return really_open(pid)

    monkeypatch.setattr(os, "pidfd_open", abandoned_meanwhile)
    with pytest.raises(UpdateFailed, match="died of signal 15"):
        update.apply(context, patience())


def test_what_a_successful_update_started_is_left_alone(context, script, tmp_path):
    """An update that restarts a daemon has done its job; the daemon stays, nobody waits for it."""
    body = f"sleep 60 & echo $! >{shlex.quote(str(tmp_path / 'pid'))}"
    update = command(script(body))
    watch = Stopwatch()
    assert update.apply(context, patience()).returncode == 0
    assert watch.elapsed_s() < 10
    pid = int((tmp_path / "pid").read_text())
    assert not gone(pid)
    update.abandon()
    assert not update._runner._running.survivors(patience())
    assert gone(pid)


def test_what_cannot_be_ended_is_named_and_nothing_is_rolled_back(context, script, monkeypatch):
    """Rolling back under a process that still runs would make it worse; its pid is reported."""
    monkeypatch.setattr(process_family, "GRACE_S", 0.05)
    update = command(script("sleep 60 & exit 1"), rollback=("false",))
    with pytest.raises(UpdateFailed, match="status 1"):
        update.apply(context, patience())
    (pid,) = update._runner._running.survivors(Deadline.after(0))
    refused = []
    monkeypatch.setattr(os, "kill", lambda *signalled: refused.append(signalled))
    with pytest.raises(UpdateFailed, match=f"nothing was rolled back: {pid}"):
        update.rollback(context, patience())
    monkeypatch.undo()
    assert {signalled for signalled, _ in refused} == {pid}
    os.kill(pid, signal.SIGKILL)


def test_a_flood_of_output_neither_blocks_the_update_nor_fills_the_disk(
    context, script, monkeypatch
):
    """Output beyond the limit is thrown away, the file says so, and the command ends as usual."""
    monkeypatch.setattr(child_process, "OUTPUT_LIMIT_BYTES", 1_000_000)
    output = command(script("head -c 50000000 /dev/zero")).apply(context, patience()).output
    kept = output.read_bytes()
    assert len(kept) < 1_000_100
    assert kept.endswith(b"truncated by harness\n")


def test_output_that_cannot_be_kept_does_not_stop_the_update(context, script):
    """A run folder that cannot be written costs the output, not the update."""
    (context.run_dir / "update-..%2F0.log").mkdir()
    assert command(script("head -c 1000000 /dev/zero")).apply(context, patience()).returncode == 0


def test_verify_and_rollback_are_commands_too(context, script):
    """Both get the same environment and a file of their own; their failure is UpdateFailed."""
    update = command(
        "true",
        verify=(script("echo $HARNESS_UPDATE_DOMAIN", "v"),),
        rollback=(script("echo undone; exit 4", "r"),),
    )
    update.prepare(context, patience())
    update.apply(context, patience())
    update.verify(context, patience())
    assert (context.run_dir / "verify-..%2F0.log").read_text() == "../0\n"
    with pytest.raises(UpdateFailed, match="ended with status 4"):
        update.rollback(context, patience())
    assert (context.run_dir / "rollback-..%2F0.log").read_text() == "undone\n"


def test_a_verify_command_that_hangs_is_ended(context, script):
    """verify has a deadline of its own; the process does not outlive it."""
    update = command("true", verify=(script("exec sleep 60", "v"),))
    with pytest.raises(UpdateFailed, match="verify command .* did not end in time"):
        update.verify(context, Deadline.after(0.1))
    assert not update._runner._running.survivors(patience())


def test_what_is_declared_is_what_the_plan_sees():
    """Scope, memory and duration come from the settings; by default the whole host is paused."""
    update = command("true")
    assert (update.scope, update.preserves_memory, update.expected_s) == (Scope.HOST, True, 10.0)
    update = command("true", scope=Scope.GUEST, preserves_memory=False, expected_s=3.0)
    assert (update.scope, update.preserves_memory, update.expected_s) == (Scope.GUEST, False, 3.0)


@pytest.mark.parametrize("ends", ["exit 3", "exit 0"])
def test_an_ending_that_the_kernel_has_forgotten_is_no_success(context, script, ends):
    """SIGCHLD ignored, by a program that embeds us: subprocess itself says 0 to everything."""
    update = command(script(ends))
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        with pytest.raises(UpdateFailed, match="how is not known"):
            update.apply(context, patience())
    finally:
        signal.signal(signal.SIGCHLD, before)


def test_an_update_has_the_umask_of_a_service(context, script):
    """Whatever ours is: what it installs must be readable, and not be writable for others."""
    before = os.umask(0o077)
    try:
        applied = command(script("umask")).apply(context, patience())
    finally:
        os.umask(before)
    assert applied.output is not None
    assert applied.output.read_text().strip() == "0022"
