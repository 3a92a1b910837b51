"""How often OpenSSH is asked for many guests, and that what is not asked is as it would answer."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from harness.core.errors import ConfigError
from harness.core.settings import SshSection
from harness.core.timebase import Deadline
from harness.guest import openssh
from harness.guest.access import Access
from harness.guest.hostkeys import look_up
from harness.guest.known_lines import known_lines
from harness.guest.user_config import UserConfig

pytestmark = pytest.mark.timeout(60)

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIKY7bbvYsOyFHmwrAQ9TEDdrMGEqfcNcFb9UJjM4JvgD"


def soon() -> Deadline:
    return Deadline.after(30)


@pytest.fixture
def home(home):
    """With an empty configuration."""
    (home / ".ssh/config").touch()
    return home


@pytest.fixture
def asked(tmp_path, monkeypatch):
    """``asked()``: the last words of each process of OpenSSH since it was called last."""
    folder, log = tmp_path / "bin", tmp_path / "asked"
    folder.mkdir()
    for program in ("ssh", "ssh-keygen"):
        wrapper = folder / program
        real = shutil.which(program)
        wrapper.write_text(f'#!/bin/sh\necho "$*" >>{log}\nexec {real} "$@"\n')
        wrapper.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")

    def since() -> list[str]:
        said = log.read_text().splitlines() if log.exists() else []
        log.unlink(missing_ok=True)
        return said

    return since


def prepare(guests: int, known: Path | None, access: Access) -> None:
    """What comes before so many logins."""
    common = SshSection(user="root", known_hosts=known)
    for number in range(guests):
        name, address = f"g{number}", f"10.0.0.{number}"
        assert access.configured_address(name, soon()) is None
        settings = access.settings(name, address, common, SshSection(), soon())
        assert settings.user == "root"
        assert address in settings.known_names
        assert bool(look_up(settings, soon()).first.keys) is (known is not None)


@pytest.mark.parametrize("hashed", [False, True])
def test_many_guests_take_no_more_processes_than_one(home, asked, hashed):
    """Where the configuration singles none of them out."""
    known = home / "known"
    known.write_text("".join(f"10.0.0.{number} {KEY}\n" for number in range(12)))
    if hashed:
        subprocess.run(["ssh-keygen", "-q", "-H", "-f", known], check=True)
        asked()
    prepare(1, known, Access())
    for_one = asked()
    prepare(12, known, Access())
    assert len(asked()) == len(for_one)


def test_a_guest_that_is_singled_out_is_asked_for_by_itself(home, asked):
    """The others are not."""
    (home / ".ssh/config").write_text("Host g3\n Port 77\nHost 10.0.0.5\n Port 78\n")
    access = Access()
    prepare(12, None, access)
    about = [words.split()[-1] for words in asked() if "-G" in words.split()]
    assert {one for one in about if not one.startswith("stranger")} == {"g3", "10.0.0.5"}
    both = SshSection(), SshSection()
    assert access.settings("g3", "10.0.0.3", *both, soon()).port == 77
    assert access.settings("g5", "10.0.0.5", *both, soon()).port == 78


HOSTS = (
    *("web1", "WEB1", "g3.example.org", "10.0.0.7", "010.0.0.7", "10.7", "0x7f000001", "a0"),
    *("2001:db8::7", "2001:db8:0::7", "::ffff:10.0.0.7", "::ffff:a00:7", "::1", "fe80::1%lo"),
)


@pytest.mark.parametrize(
    "config",
    [
        "",
        "User x\nHost *\n Port 3\n",
        "Host web*\n User a\nHost 10.0.0.*\n User b\nHost *\n User c\n",
        "Host * !web1\n User others\n",
        "Host !web1 *\n User others\n",
        "Host ?*\n User all\n",
        "Host=web1\n User is\n",
        'Host "web1"\n User quoted\n',
        "host\tweb1 # it\n User tab\n",
        "Match exec true\n User all\n",
        'Match exec "test %n = web1"\n User it\n',
        "Match host web1\n User it\n",
        "Match all\n User all\n",
        "Match originalhost WEB1\n User shouts\n",
        "Host *\n HostName %h.example.org\n IdentityFile ~/%h\n RemoteCommand %n\n",
        "Include more\nHost *\n User c\n",
        "Host nobody\n Include more\n",
        "CanonicalizeHostname yes\nCanonicalDomains example.org\nCanonicalizeMaxDots 0\n",
        "ProxyJump %h-gate\nUserKnownHostsFile ~/%k\nHostKeyAlias x%n\n",
    ],
)
def test_what_is_not_asked_is_as_openssh_would_answer(home, config):
    (home / ".ssh/config").write_text(config)
    (home / ".ssh/more").write_text("Host web1 10.0.0.*\n User more\n")
    if "Include" in config:
        (home / ".ssh/config").write_text(config.replace("more", str(home / ".ssh/more")))
    mine = UserConfig()
    for number, host in enumerate(HOSTS):
        words = ("-l", "root", "-p", "7") if number % 2 else ()
        try:
            theirs = openssh.effective(host, words, soon())
        except ConfigError as error:
            with pytest.raises(type(error)):
                mine.about(host, words, soon())
            continue
        said = mine.about(host, words, soon())
        assert said.host == theirs.host
        assert {**said.values, "loglevel": ""} == {**theirs.values, "loglevel": ""}


NAMES = (
    *("web1", "WEB1", "[web1]:22", "[web1]:2222", "10.0.0.7", "2001:db8::7", "x" * 1100, "a b"),
    *("we*", "nobody", "xn--bcher-kva.example", "b\u00fccher"),
)


@pytest.mark.parametrize(
    "text",
    [
        f"web1,10.0.0.7 {KEY}\nWEB1 {KEY} again\nother {KEY}\n",
        f"# web1\n\nweb1 {KEY}\n@revoked web1 {KEY}\n@cert-authority *.org,web? {KEY}\n",
        f"*,!web1 {KEY}\n!web1,* {KEY}\n10.0.*.7 {KEY}\n[web1]:* {KEY}\n",
        f"  web1 {KEY}\n\tweb1 {KEY}\nweb1\t{KEY}\n",
        f"web1 {KEY}\r\nweb1 {KEY}\n",
        f"web1 {KEY}",
        f"web1,web1 {KEY}\nweb1 {KEY}\nweb1 1024 35 1234\nweb1\nweb1 x\n",
        f"@strange web1 {KEY}\n@revoked @revoked web1 {KEY}\n@revoked\n",
        f"|1|nothing|hashed {KEY}\n|1|{'A' * 27}=|{'A' * 27}= {KEY}\n",
        f"b\u00fccher {KEY}\nxn--bcher-kva.example {KEY}\n",
        f"{'x' * 1100} {KEY}\n{'x' * 1100}* {KEY}\nweb1 {KEY}\n",
        f"web1,,10.0.0.7 {KEY}\n,web1 {KEY}\nweb1, {KEY}\n",
        "",
    ],
)
@pytest.mark.parametrize("hashed", [False, True])
def test_known_lines_are_those_that_openssh_finds(tmp_path, text, hashed):
    file = tmp_path / "known"
    file.write_text(text)
    if hashed:
        subprocess.run(["ssh-keygen", "-H", "-f", file], check=False, capture_output=True)
    for name in NAMES:
        assert known_lines(file, name, soon()) == openssh.known_lines(file, name, soon()), name


def test_a_file_of_known_hosts_that_has_changed_is_read_again(tmp_path):
    file = tmp_path / "known"
    assert known_lines(file, "web1", soon()) == []
    file.write_text(f"web1 {KEY}\n")
    assert known_lines(file, "web1", soon()) == [f"web1 {KEY}"]
    file.write_text(f"web2 {KEY}\n")
    assert known_lines(file, "web1", soon()) == []
    file.unlink()
    assert known_lines(file, "web1", soon()) == []
