"""A whole maintenance of a real guest whose login shell talks: what it says changes no verdict."""

from __future__ import annotations

import shlex

import pytest

from harness.core.timebase import Deadline

#: Around every command, into both outputs, and what ends a `read` where sh is bash.
NOISE = "echo Welcome to $(hostname); echo 'mind the step' >&2\n"
LOGINS = {
    "bash that greets": ("/bin/bash", ".bashrc", NOISE),
    "bash with TMOUT and a good-bye": (
        "/bin/bash",
        ".bashrc",
        f"{NOISE}readonly TMOUT=2; export TMOUT; trap 'echo bye' EXIT\n",
    ),
    "zsh": ("/usr/bin/zsh", ".zshenv", f"{NOISE}TMOUT=2\nTRAPEXIT() {{ echo bye }}\n"),
    "tcsh": ("/usr/bin/tcsh", ".cshrc", "echo Welcome\nset autologout = 1\n"),
    "fish": ("/usr/bin/fish", ".config/fish/config.fish", "echo Welcome\n"),
}


def soon() -> Deadline:
    return Deadline.after(60)


@pytest.fixture(params=LOGINS)
def talkative(request, session):
    """The Debian guest, whose root has another login shell; it is as before afterwards."""
    program, file, text = LOGINS[request.param]
    shell = session("debian-1").shell
    shell.run(
        f"mkdir -p $(dirname {file}); touch {file}; cp {file} {file}.before\n"
        f"printf %s {shlex.quote(text)} | cat - {file}.before >{file}\n"
        f"echo 'Authorised use only' >/etc/motd; usermod -s {program} root",
        soon(),
    )
    yield "debian-1"
    shell.run(f"usermod -s /bin/bash root; mv {file}.before {file}; : >/etc/motd", soon())


def test_what_a_login_shell_says_changes_no_verdict(talkative, harness):
    """Same boot, TCP session, clock: they are judged by answers, and by all of them."""
    ended = harness("run", talkative, "--kind", "stand-in", "--json")
    assert ended.code == 0, ended.err
    (guest,) = ended.record["guests"]
    outcomes = {check["name"]: check["outcome"] for check in guest["checks"]}
    assert outcomes["same-boot"] == outcomes["tcp-session"] == "pass"
    # A guest that has just booted has nothing old, and no connections but ours, to be judged.
    young = {"processes", "connections"}
    assert {name: told for name, told in outcomes.items() if told != "pass"}.keys() <= young
    assert not {"fail", "error"} & set(outcomes.values())
