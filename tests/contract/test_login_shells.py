"""Whatever a login shell says around an answer, it is the same: real servers, real shells."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

from harness.checks.guest_life import parse_files
from harness.checks.probes.programs import python3_program, sh_program
from harness.clock.one_channel import enter
from harness.clock.sampling import Sampler
from harness.core.errors import DeadlineExpired, ProbeError
from harness.core.timebase import Deadline
from harness.guest.facts import gather
from harness.guest.kernel_log import KernelLog, look_again
from harness.guest.shell import SshShell
from harness.testing.required import required
from harness.testing.sshd import Sshd, private_sshd
from tests.contract.conftest import mounting

pytestmark = pytest.mark.timeout(90)

#: What a script of ours may have in it, and some shells take for something else.
AWKWARD = """printf '%s|' 'a b' "it's" '\\\\' '!' '$HOME' "#" '~' '*' ';'
# a comment's quote
printf 'last' >&2
exit 7"""
GREETING = "echo Welcome to $HOST; echo 'and mind the step' >&2\n"


@dataclass(frozen=True)
class Login:
    """An account's shell and its files, and what the server adds."""

    shell: str
    files: tuple[tuple[str, str], ...] = ()
    server: tuple[str, ...] = ()


def bash(rc: str, *server: str) -> Login:
    return Login("bash", ((".bashrc", rc),), server)


LOGINS = {
    "bash": bash(""),
    "bash that greets": bash(GREETING),
    "bash that says good-bye": bash("trap 'echo bye; echo bye >&2; false' EXIT\n"),
    "bash without a newline": bash("printf 'Welcome: '; printf 'x: ' >&2\n"),
    "bash with a prompt of numbers": bash("seq 1000; echo 1 hello step\n"),
    "bash with TMOUT": bash("TMOUT=1; readonly TMOUT; export TMOUT\n"),
    "bash that traces": bash("set -xv; export SHELLOPTS PS4='harness + '\n"),
    "bash with one output": bash(f"exec 2>&1; {GREETING}"),
    "bash without errors": bash(f"exec 2>/dev/null; {GREETING}"),
    "bash with something in the background": bash("sleep 300 & echo started\n"),
    "bash that becomes another": bash(f"{GREETING} exec zsh\n"),
    "bash in another language": bash("export LC_ALL=de_DE.UTF-8 LANGUAGE=de\n"),
    "bash with colours": bash("printf '\\033[1mWelcome\\033[0m\\r\\n\\0\\377'\n"),
    "tcsh": Login("tcsh"),
    "tcsh that greets": Login("tcsh", ((".cshrc", "echo Welcome\nset autologout = 1\n"),)),
    "zsh": Login("zsh"),
    "zsh that greets": Login(
        "zsh", ((".zshenv", "echo Welcome; TMOUT=1; TRAPEXIT() { echo bye }\n"),)
    ),
    "fish": Login("fish"),
    "fish that greets": Login(
        "fish",
        (
            (
                ".config/fish/config.fish",
                "echo Welcome\nfunction bye --on-event fish_exit\n echo bye\nend\n",
            ),
        ),
    ),
    "dash": Login("dash"),
    "restricted bash": Login("rbash-for-tests"),
    "a banner": bash("", "Banner {folder}/sshd_config"),
    "a message of the day": bash("", "PrintMotd yes", "PrintLastLog yes"),
    "a forced command that greets": bash(
        "", 'ForceCommand echo Authorised use only; eval "$SSH_ORIGINAL_COMMAND"; echo bye'
    ),
    "a forced command without quotes": bash(
        "", "ForceCommand echo Authorised use only; $SSH_ORIGINAL_COMMAND"
    ),
    "a forced shell": bash(GREETING, 'ForceCommand bash -c "$SSH_ORIGINAL_COMMAND"'),
}


def soon(seconds: float = 20) -> Deadline:
    return Deadline.after(seconds)


@pytest.fixture(scope="module")
def accounts(tmp_path_factory):
    """An account for each of ``LOGINS``, in this namespace only."""
    folder = tmp_path_factory.mktemp("accounts")
    folder.chmod(0o755)
    names, passwd, shadow = {}, [], []
    for number, (case, login) in enumerate(LOGINS.items()):
        home = folder / f"home{number}"
        for name, text in login.files:
            (home / name).parent.mkdir(parents=True, exist_ok=True)
            (home / name).write_text(text)
        home.mkdir(exist_ok=True)
        names[case] = f"harness{number}"
        passwd.append(f"{names[case]}:x:0:0::{home}:{_program(login.shell, folder)}\n")
        shadow.append(f"{names[case]}:*:20000:0:99999:7:::\n")
    with mounting(tmp_path_factory) as mount:
        for file, more in ((Path("/etc/passwd"), passwd), (Path("/etc/shadow"), shadow)):
            ours = folder / file.name
            ours.write_text(file.read_text() + "".join(more))
            mount(ours, file)
        yield names


def _program(shell: str, folder: Path) -> str:
    if shell == "rbash-for-tests":
        shutil.copy("/bin/bash", folder / "rbash")
        return str(folder / "rbash")
    return shutil.which(shell) or f"/missing/{shell}"


@pytest.fixture(scope="module")
def servers(accounts, tmp_path_factory):
    """One server for each set of additional lines."""
    folder = tmp_path_factory.mktemp("servers")
    running: dict[tuple[str, ...], Sshd] = {}
    contexts = []
    for login in LOGINS.values():
        if login.server not in running:
            context = private_sshd(folder / str(len(running)), None, *login.server)
            running[login.server] = context.__enter__()
            contexts.append(context)
    yield running
    for context in contexts:
        context.__exit__(None, None, None)


@pytest.fixture(params=LOGINS)
def shell(request, accounts, servers):
    """Logged in as each of ``LOGINS``."""
    login = LOGINS[request.param]
    if not login.shell.startswith("rbash") and shutil.which(login.shell) is None:
        if required("guest"):
            pytest.fail(f"{login.shell} is required, and not installed: scripts/setup")
        pytest.skip(f"{login.shell} is not installed")
    server = servers[login.server]
    settings = server.settings(user=accounts[request.param])
    shell = SshShell.open("web1", "127.0.0.1", settings, soon())
    yield shell
    shell.close()


def test_an_answer_is_what_the_command_said_and_no_more(shell, request):
    """Its output, its errors, its status; errors as far as the login shell leaves them alone."""
    login = request.node.callspec.params["shell"]
    done = shell.run(AWKWARD, soon(), check=False)
    said, errors = "a b|it's|\\\\|!|$HOME|#|~|*|;|", "last"
    if login == "bash with one output":
        said, errors = said + errors, ""
    elif login == "bash without errors":
        errors = ""
    assert (done.returncode, done.stdout) == (7, said)
    assert done.stderr == errors or login == "bash that traces"
    empty = shell.run("true", soon())
    assert (empty.returncode, empty.stdout) == (0, "")


def test_a_line_is_answered_by_the_process_that_was_started(shell):
    """From the first line on; what the login shell says in the end is no answer."""
    stream = shell.stream('while read -r line; do echo "you said $line"; done; echo bye', soon())
    assert stream.ask("hello \\ there", soon())[1] == "you said hello \\ there"
    stream.close()
    short = shell.stream('read -r line; echo "$line"', soon())
    assert short.ask("once", soon())[1] == "once"
    with pytest.raises(ProbeError, match="ended"):
        short.ask("twice", soon())
    short.close()


def lines_of(program, question: str) -> list[str]:
    lines = [program.ask(question, soon())[1]]
    while lines[-1] != ".":
        lines.append(program.listen(soon())[0])
    return lines[:-1]


def test_everything_that_a_run_asks_is_answered(shell):
    """Facts, boot id, clock by each interpreter, canary, what lives in the guest."""
    facts = gather(shell, soon())
    boot_id = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    assert (facts.boot_id, facts.uid) == (boot_id, 0)
    assert look_again(shell, KernelLog(None), soon())[0] == boot_id
    for interpreter in facts.interpreters:
        sampler = Sampler.open(shell, facts, soon(), interpreters=(interpreter,))
        assert abs(sampler.read(2, soon()).offset_s) < 1
        sampler.close()
    entered = enter(shell, ("python3", "perl", "sh"), soon())
    assert entered is not None
    assert (entered[0].boot_id, entered[1].interpreter) == (boot_id, facts.interpreters[0])
    entered[1].close()
    program = shell.stream(python3_program({"canary"}), soon())
    assert program.listen(soon())[0] == "ready"
    assert program.ask(f"fill {'00' * 32} 4096", soon())[1] == "ok"
    assert len(program.ask("digest", soon())[1].split()[0]) == 64
    program.close()
    program = shell.stream(sh_program(), soon())
    assert program.listen(soon())[0] == "ready"
    assert lines_of(program, f"fill {'00' * 32} 4") == []
    assert len(lines_of(program, "digest")[0].split()[0]) == 64
    lines = lines_of(program, "life")
    program.close()
    assert os.getpid() in {pid for pid, _ in parse_files(lines).processes}


def test_an_idle_process_outlives_tmout(accounts, servers):
    """Where sh is bash, TMOUT ends a `read`; a pause is longer."""
    login = LOGINS["bash with TMOUT"]
    settings = servers[login.server].settings(user=accounts["bash with TMOUT"])
    shell = SshShell.open("web1", "127.0.0.1", settings, soon())
    stream = shell.stream("bash --norc -c 'read -r line; echo \"$line\"'", soon())
    with pytest.raises(DeadlineExpired):
        stream.listen(soon(1.5))
    assert stream.ask("hello", soon())[1] == "hello"
    shell.close()


@pytest.mark.parametrize("forced", ["cat", "echo no commands here; exit 1", "/usr/sbin/nologin"])
def test_a_login_that_runs_no_command_is_named(tmp_path, forced):
    """With what it said instead, and not as a nonsensical answer."""
    with private_sshd(tmp_path / "sshd", None, f"ForceCommand {forced}") as server:
        shell = SshShell.open("web1", "127.0.0.1", server.settings(), soon())
        with pytest.raises(ProbeError, match="web1: .*runs no command: .*hint: .*sh -s"):
            shell.run("true", soon(3))
        with pytest.raises((ProbeError, DeadlineExpired)):
            shell.stream("cat", soon(1))
        shell.close()
