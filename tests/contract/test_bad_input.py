"""Bad input at the command line: one or two lines that say what, where and how to mend it; the
right exit code; no traceback; nothing paused.

The guests are those of libvirt's test driver, which lives in this process. They have no SSH, so a
command that came as far as logging in would say so.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import subprocess
import sys
import tomllib
from contextlib import contextmanager

import pytest

from harness.cli.main import run_command_line
from harness.core.timebase import Deadline
from harness.host.driver import LibvirtHypervisor
from harness.lab import state
from harness.testing.sshd import make_key, private_sshd

NODE = """
<node xmlns:test='http://libvirt.org/schemas/domain/test/1.0'>
  <domain type='test'><name>web-1</name><memory>1024</memory><os><type>hvm</type></os></domain>
  <domain type='test'><name>a; touch x</name><memory>1024</memory><os><type>hvm</type></os></domain>
  <domain type='test'><name>off</name><memory>1024</memory><os><type>hvm</type></os>
    <test:runstate>5</test:runstate></domain>
  <domain type='test'><name>paused</name><memory>1024</memory><os><type>hvm</type></os>
    <test:runstate>3</test:runstate></domain>
</node>
"""


@pytest.fixture
def say(tmp_path, monkeypatch, capsys):
    """Type a command in an empty folder; returns exit code, stdout and stderr (unwrapped)."""
    node = tmp_path / "node.xml"
    node.write_text(NODE)
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("HARNESS_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("HARNESS_LOCK_DIR", str(tmp_path))  # else one for all test nodes
    monkeypatch.setenv("HARNESS_URI", f"test://{node}")

    def run(*arguments: str) -> tuple[int, str, str]:
        code = run_command_line(list(arguments))
        out, err = capsys.readouterr()
        assert "Traceback" not in out + err
        assert len(err.splitlines()) <= 4, err  # click adds two lines of usage to one of its own
        return code, out, " ".join(err.split())

    return run


def configure(text: str) -> None:
    with open("harness.toml", "w") as file:
        file.write(text)


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("run", "web1"), 2, "node.xml (hint: did you mean 'web-1'? running there: "),
        (("run", "off"), 3, "off: is shut off"),
        (("run", "paused"), 3, "paused: is paused"),
        (("run", "web-1", "web-1"), 2, "web-1"),
        (("run",), 2, "hint"),
        (("run", "web-1", "--budget", "0"), 2, "harness: --budget: must be more than 0"),
        (("run", "web-1", "--budget", "-3"), 2, "--budget: invalid duration '-3'"),
        (("run", "web-1", "--budget", "nan"), 2, "--budget: invalid duration 'nan'"),
        (("run", "web-1", "--budget", "inf"), 2, "--budget: invalid duration 'inf'"),
        (
            ("run", "web-1", "--budget", "soon"),
            2,
            "--budget: invalid duration 'soon': expected e.g. 5ms, 90s",
        ),
        (
            ("run", "web-1", "--budget", "1"),
            2,
            "--budget: a reserve of 2 s leaves nothing of",
        ),
        (
            ("run", "web-1", "--kind", "stand-on"),
            2,
            "--kind: unknown kind 'stand-on' (hint: did",
        ),
        (("run", "web-1", "--kind", "zzz"), 2, "(hint: kinds: stand-in, command, hold"),
        (
            ("run", "web-1", "--scope", "rack"),
            2,
            "--scope: unknown scope 'rack' (hint: scopes:",
        ),
        (("run", "web-1", "--update", "./gone.sh"), 2, "update.command: ./gone.sh: no such"),
        (("run", "web-1", "--update", ""), 2, "an update of kind command needs a command"),
        (("run", "web-1", "--update", "it's"), 2, "--update: cannot be split into words"),
        (("run", "web-1", "--expected", "29"), 2, "hint"),
        (("run", "web-1", "-c", "gone.toml"), 2, "gone.toml"),
        (("run", "web-1", "--bugdet", "3"), 2, "--budget"),
        (("rnu",), 2, "harness: no such command 'rnu' (hint: did you mean 'run'?)"),
        (("clock", "sho"), 2, "harness: no such command 'sho' (hint: did you mean 'show'?)"),
        (("run", "--all", "web-1"), 2, "--all and the names of guests exclude each other"),
        (("plan", "web-1", "--except", "web-9"), 2, "web-9: no such guest"),
        (("plan", "db*"), 2, "db*: no such guest"),
        (("run", "web-1", "--notify", "15"), 2, "--notify: duration '15' has no unit: write 15s"),
        (("run", "web-1", "--soak", "15"), 2, "--soak: duration '15' has no unit: write 15s, or"),
        (("nightly", "web-1", "--soak", "15"), 2, "--soak: duration '15' has no unit"),
        (("clock", "show", "web-1", "--watch", "5"), 2, "--watch: duration '5' has no unit"),
        (("lab", "up", "--timeout", "4"), 2, "--timeout: duration '4' has no unit"),
        (("events", "schedule", "--in", "6"), 2, "--in: duration '6' has no unit"),
        (("lock", "--hold", "x", "--for", "2"), 2, "--for: duration '2' has no unit"),
        (("events", "rehearse", "live-migratoin", "--guest", "x"), 2, "did you mean 'live-migrat"),
        (("history", "trend", "overhead"), 2, "did you mean 'overhead_s'?"),
        (("report",), 2, "no run yet in"),
        (("report", "xyz"), 2, "no run 'xyz' in"),
        (("clock", "show"), 2, "GUEST"),
        (("clock", "show", "web1"), 2, "did you mean 'web-1'?"),
        (("clock", "correct", "web-1", "--tolerance", "0"), 2, "--tolerance: must be more than 0"),
        (("clock", "show", "web-1", "--tolerance", "-0.01"), 2, "--tolerance: invalid duration"),
        (("clock", "show", "web-1", "--tolerance", "nan"), 2, "--tolerance: invalid duration"),
        (
            ("clock", "correct", "web-1", "--method", "magic"),
            2,
            "--method: unknown method 'magic'",
        ),
        (
            ("clock", "show", "web-1", "--interpreter", "ruby"),
            2,
            "--interpreter: unknown",
        ),
        (("clock", "show", "web-1", "--watch", "soon"), 2, "--watch: invalid duration 'soon'"),
        (("clock", "show", "web-1", "--watch", "-5s"), 2, "--watch: invalid duration '-5s'"),
        (
            ("clock", "show", "web-1", "--samples", "0"),
            2,
            "--samples: must be at least 1",
        ),
        (
            ("run", "web-1", "--method", "magic"),
            2,
            "--method: unknown method 'magic'",
        ),
        (
            ("run", "web-1", "--scope", "gest"),
            2,
            "unknown scope 'gest' (hint: did you mean 'guest'?)",
        ),
        (("runn", "web-1"), 2, "no such command 'runn' (hint: did you mean 'run'?)"),
        (("clock", "sho"), 2, "no such command 'sho' (hint: did you mean 'show'?)"),
        (
            ("history", "compare"),
            2,
            "harness: missing FIRST (hint: harness history compare --help)",
        ),
        (("run", "web-1", "--watch", "long"), 2, "--watch: invalid duration 'long'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)
def test_bad_arguments(say, arguments, code, words):
    """What, where, measured against allowed, a hint."""
    ended, out, err = say(*arguments)
    assert words in err
    assert ended == code
    assert out == ""


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("bugdet_s = 3", "harness.toml: bugdet_s: unknown key (hint: did you mean 'budget_s'?)"),
        ("[clock]\ntolerence_s = 1", "clock.tolerence_s: unknown key (hint: did you mean"),
        ('budget_s = "30"', "harness.toml: budget_s: duration '30' has no unit: write 30s"),
        ("budget_s = -1", "harness.toml: budget_s: must be more than 0 (given: -1"),
        ("budget_s = nan", "harness.toml: budget_s: "),
        ('[[guest]]\nname = "w"\n[[guest]]\nname = "w"', "two guests are called 'w'"),
        ('[[guest]]\nname = "w"\naddres = "x"', "guest[w].addres: unknown key (hint: did you mean"),
        ("budget_s = ", "harness.toml: not valid TOML"),
        ("guest = 3", "harness.toml: guest: "),
        ("clock = 3", "harness.toml: clock: "),
        (
            '[update]\nkind = "command"\ncommand = "x"',
            "update.command: must be a list (given: 'x') (hint: write [\"x\"])",
        ),
        ("[update]\nkind = 'command'\ncommand = './x.sh --now'", 'write ["./x.sh", "--now"]'),
        (
            "[update]\ncommand = './x.sh --now'",
            'not to stand-in (hint: kind = "command" under [update]; command = '
            '["./x.sh", "--now"])',
        ),
        ('budget_s = "soon"', "budget_s: invalid duration 'soon': expected e.g. 5ms"),
        ('[clock]\nmethods = ["chrony"]', "did you mean 'chronyd'?"),
        ("resume_reserve_s = 40.0", "harness.toml: resume_reserve_s: a reserve of 40 s leaves no"),
        ('[update]\nsysctl = ["a=1"]', "harness.toml: update.sysctl: belongs to kind sysctl"),
        ('[update]\nkind = "sysctl"', "update.sysctl: an update of kind sysctl needs settings"),
    ],
)
def test_a_bad_configuration(say, text, words):
    """File, key, and the nearest valid key."""
    configure(text)
    code, _, err = say("run", "web-1")
    assert words in err
    assert code == 2


def test_a_bad_environment_variable(say, monkeypatch):
    """The variable's name is said."""
    monkeypatch.setenv("HARNESS_BUDGET_S", "soon")
    code, _, err = say("run", "web-1")
    assert "harness: HARNESS_BUDGET_S: invalid duration 'soon'" in err
    assert code == 2


def test_a_misspelt_environment_variable(say, monkeypatch):
    """It would change nothing, and nobody would know for a year."""
    monkeypatch.setenv("HARNESS_BUGDET_S", "10")
    code, _, err = say("run", "web-1")
    assert "HARNESS_BUGDET_S: unknown variable (hint: did you mean HARNESS_BUDGET_S?)" in err
    assert code == 2


@pytest.mark.parametrize(
    ("arguments", "where", "message"),
    [
        (("run", "web1"), None, "no such guest on "),
        (("run", "web-1", "--budget", "0"), "--budget", "must be more than 0"),
        (("run", "web-1", "--budget", "soon"), "--budget", "invalid duration 'soon'"),
        (("clock", "show", "web-1", "--bugdet", "3"), None, "no such option"),
        (("run", "web-1", "-c", "gone.toml"), "gone.toml", "no such file"),
    ],
)
def test_under_json_an_error_is_json_as_well(say, arguments, where, message):
    """One document on stdout; the same for people on stderr."""
    code, out, err = say(*arguments, "--json")
    error = json.loads(out)["error"]
    assert set(error) == {"type", "message", "hint", "guest", "where", "exit_code"}
    assert (error["exit_code"], error["where"]) == (code, where)
    assert message in error["message"]
    assert error["hint"] or where == "--budget" or where == "gone.toml"
    assert message in err


@pytest.mark.parametrize(
    "arguments",
    [("config", "show"), ("run", "--show-config"), ("plan", "--show-config"),
     ("nightly", "--show-config"), ("doctor", "--show-config"), ("experiment", "--show-config"),
     ("clock", "show", "web-1", "--show-config")],
)  # fmt: skip
def test_the_configuration_in_force_is_shown_as_toml(say, monkeypatch, arguments):
    """What a variable says, and a file; nothing is done."""
    configure('budget_s = "25s"\n')
    monkeypatch.setenv("HARNESS_SOAK_S", "2m")
    code, out, _ = say(*arguments)
    assert code == 0
    shown = tomllib.loads(out)
    assert (shown["budget_s"], shown["soak_s"]) == (25.0, 120.0)
    assert "soak_s = 120.0  # environment HARNESS_SOAK_S" in out


@pytest.mark.parametrize(
    "arguments", [("nightly", "web-1"), ("events", "schedule", "web-1", "--in", "1h")]
)
def test_a_dry_run_shows_the_plan_and_does_nothing(say, arguments):
    """Of a night, and of what would be scheduled."""
    code, out, err = say(*arguments, "--dry-run")
    assert (code, err) == (0, "")
    assert "update domain" in out
    assert "web-1" in out
    assert say("events", "list")[1] == "no events (--all shows those that are over)\n"


def test_what_is_scheduled_has_the_options_about_clocks_and_answers_programs(say):
    """As `run` has them; the number is what cancels it."""
    code, out, _ = say("events", "schedule", "web-1", "--in", "1h", "--no-correct", "--json")
    number = json.loads(out)["scheduled"]
    assert (code, number) == (0, 1)
    assert "--no-correct -- web-1" in " ".join(say("events", "list")[1].split())
    code, out, _ = say("events", "cancel", str(number), "--json")
    assert (code, json.loads(out)) == (0, {"cancelled": number})


def test_a_history_without_runs_says_so(say):
    assert say("history", "list")[:2] == (0, "no run in the history\n")


@pytest.mark.parametrize("arguments", [("-v", "plan", "web-1"), ("plan", "web-1", "-v")])
def test_more_is_said_wherever_a_person_asks_for_it(say, arguments):
    """Before the command, or after it."""
    log = logging.getLogger("harness")
    try:
        assert log.getEffectiveLevel() == logging.WARNING
        assert say(*arguments)[0] == 0
        assert log.getEffectiveLevel() == logging.INFO
    finally:
        log.setLevel(logging.NOTSET)


def test_a_lab_that_is_still_booting_is_told_of(say, tmp_path):
    """Its guests are in no configuration yet."""
    folder = tmp_path / "state" / "lab"
    folder.mkdir(parents=True)
    (folder / "lab.json").write_text("{}")
    with state.claimed():
        assert "a lab is still booting" in say("plan", "web-1")[2]
    assert "booting" not in say("plan", "web-1")[2]


def test_an_update_that_may_not_be_executed(say, tmp_path):
    """The hint is the command that mends it; known before anybody logs in."""
    script = tmp_path / "patch.sh"
    script.write_text("#!/bin/sh\n")
    code, _, err = say("plan", "web-1", "--update", str(script))
    assert f"{script} is not executable (hint: chmod +x {script})" in err
    assert code == 2


def test_no_libvirt_there(say):
    """The hint says how to start it."""
    code, _, err = say("run", "web-1", "--uri", "qemu+unix:///system?socket=/nonexistent/sock")
    assert "is libvirtd running here?" in err
    assert code == 3


def test_no_libvirt_there_on_another_machine(say):
    """What is not here is not looked for here: the hint tries the same way, by hand."""
    uri = "qemu+tcp://127.0.0.1:1/system"
    code, _, err = say("plan", "web-1", "--uri", uri)
    assert f"does this answer? virsh --connect {uri} list" in err
    assert code == 3


@contextmanager
def without_rights():
    """As nobody, if we are root, who may do everything."""
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)


def test_no_permission_on_libvirts_socket(say, tmp_path, monkeypatch):
    """The hint names the group."""
    monkeypatch.setenv("HOME", "/nonexistent")
    path = tmp_path / "sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        path.chmod(0)
        with without_rights():
            code, _, err = say("run", "web-1", "--uri", f"qemu+unix:///system?socket={path}")
    assert "you may not use it" in err
    assert code == 3


def test_a_configuration_folder_that_may_not_be_searched(say, tmp_path, monkeypatch):
    """Not passed over in silence: what it holds may be what matters."""
    folder = tmp_path / "secret"
    folder.mkdir(mode=0)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(folder))
    with without_rights():
        code, _, err = say("run", "web-1")
    assert "harness.toml: cannot be looked for: Permission denied (hint: name the file" in err
    assert code == 2


def test_ssh_refused(say):
    """Guest, address and port are said; nothing was paused."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound but not listening: refused
        port = taken.getsockname()[1]
        configure(f'[[guest]]\nname = "web-1"\naddress = "127.0.0.1"\nssh.port = {port}\n')
        code, _, err = say("run", "web-1")
    assert f"web-1: connecting to 127.0.0.1 port {port}" in err
    assert code == 3
    node = os.environ["HARNESS_URI"]
    host = LibvirtHypervisor.open(node, Deadline.after(5))
    try:
        assert not host.events(host.find("web-1", Deadline.after(5)).uuid)
    finally:
        host.close()


def test_a_guest_without_an_address(say):
    """The hint is the line that gives it one."""
    code, _, err = say("run", "web-1")
    assert "web-1: has no known address" in err
    assert "[[guest]] name" in err
    assert code == 3


def test_a_name_is_only_a_name(say):
    """A guest called ``a; touch x`` is planned like any other, and no file appears."""
    code, out, _ = say("plan", "a; touch x")
    assert code == 0
    assert "a; touch x" in out
    assert os.listdir() == []


def test_a_run_folder_that_cannot_be_made(say, tmp_path, monkeypatch):
    """Said with its path, before anybody logs in."""
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("HARNESS_STATE_DIR", str(tmp_path / "file" / "state"))
    code, _, err = say("run", "web-1")
    assert "cannot make the run folder" in err
    assert "point HARNESS_STATE_DIR at" in err
    assert code == 3


def test_a_disk_that_is_nearly_full(say, monkeypatch):
    """Measured against wanted, before anybody logs in."""
    monkeypatch.setattr("harness.results.folder.FREE_BYTES_WANTED", 1 << 62)
    code, _, err = say("run", "web-1")
    assert "MiB are wanted; nothing was paused" in err
    assert code == 3


def test_with_vv_there_is_a_traceback(tmp_path):
    """For whoever wants to know more."""
    arguments = [sys.executable, "-m", "harness", "-vv", "run", "-c", str(tmp_path / "gone.toml")]
    ended = subprocess.run(arguments, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 2
    assert "Traceback" in ended.stderr
    assert ended.stderr.splitlines()[-1].startswith("harness: ")


@pytest.fixture
def shut_in(tmp_path_factory):
    """A real sshd that takes our login, but runs nothing that is asked for."""
    folder = tmp_path_factory.mktemp("sshd")
    with private_sshd(folder, None, "ForceCommand echo no shell here; exit 1") as server:
        yield server


def ssh_to(server, known: str) -> None:
    """Configure ``web-1`` to be at this sshd."""
    settings = server.settings()
    with open("known_hosts", "w") as file:
        file.write(known)
    configure(
        f'[[guest]]\nname = "web-1"\naddress = "127.0.0.1"\n[guest.ssh]\nport = {settings.port}\n'
        f'user = "{settings.user}"\nidentity_file = "{settings.identity_files[0]}"\n'
        'known_hosts = "known_hosts"\n'
    )


def test_a_guest_without_a_usable_shell(say, shut_in):
    """What it needs is the hint; nothing is paused."""
    ssh_to(shut_in, shut_in.known())
    code, _, err = say("run", "web-1")
    assert "web-1: its login shell" in err
    assert "runs no command: 'no shell here'" in err
    assert "needs a login that runs commands" in err
    assert code == 3


def test_an_unknown_host_key(say, shut_in):
    """Refused, with the command that would trust it."""
    ssh_to(shut_in, "")
    code, _, err = say("run", "web-1")
    assert f"its host key at 127.0.0.1 is unknown: {shut_in.fingerprint}" in err
    assert "compare the fingerprint on its console, then: harness trust web-1" in err
    assert code == 3


def test_a_changed_host_key(say, shut_in, tmp_path):
    """Refused, and called changed."""
    ssh_to(shut_in, shut_in.known(key=make_key(tmp_path / "other")))
    code, _, err = say("run", "web-1")
    assert "its host key at 127.0.0.1 has changed" in err
    assert code == 3
