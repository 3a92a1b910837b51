"""How it is found out how a guest is logged in to: harness.toml over OpenSSH's own answer."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from harness.core.errors import ConfigError, DeadlineExpired, HostKeyRejected, ShellUnreachable
from harness.core.settings import SshSection
from harness.core.timebase import Deadline, NotYet, Stopwatch, wait_for
from harness.guest import openssh
from harness.guest.access import Access
from harness.guest.connector import SshConnector
from harness.guest.ssh_settings import SshSettings
from harness.testing.sshd import make_key, private_sshd, public

pytestmark = pytest.mark.timeout(60)


#: What netcat does; and it stays when its connection has ended, as only SIGKILL changes.
RELAY = """
import os, signal, socket, sys, threading, time
signal.signal(signal.SIGHUP, signal.SIG_IGN)
far = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
def there():
    while data := os.read(0, 65536):
        far.sendall(data)
threading.Thread(target=there, daemon=True).start()
open(sys.argv[2], "w").write(str(os.getpid()))
while data := far.recv(65536):
    os.write(1, data)
time.sleep(100)
"""


def soon(seconds: float = 10) -> Deadline:
    return Deadline.after(seconds)


@pytest.fixture(autouse=True)
def home(home):
    """With an empty configuration."""
    (home / ".ssh/config").touch()
    return home


def settings(
    guest: str = "web1",
    address: str = "127.0.0.1",
    common: SshSection | None = None,
    own: SshSection | None = None,
    access: Access | None = None,
) -> SshSettings:
    access = access or Access()
    return access.settings(guest, address, common or SshSection(), own or SshSection(), soon())


def test_what_harness_toml_says_wins(home):
    """The guest's own section, then [ssh], then the user's SSH configuration."""
    (home / ".ssh/config").write_text(
        "Host web1\nPort 3\nUser c\nIdentityFile c\nUserKnownHostsFile c\nProxyJump c\n"
        "ConnectTimeout 7\nHost c\nPort 5\n"
    )
    common = SshSection(port=2, user="b", known_hosts=Path("b"))
    own = SshSection(port=1, identity_file=Path("a"))
    found = settings(common=common, own=own)
    assert (found.port, found.user, found.connect_timeout_s) == (1, "b", 7)
    assert (found.identity_files, found.known_hosts) == ((Path("a"),), (Path("b"),))
    assert found.jump is not None
    assert (found.jump.host, found.jump.settings.port) == ("c", 5)
    assert found.jump.settings.known_hosts[0] == Path("b")
    elsewhere = settings(common=SshSection(proxy_jump="d:9, e"), own=SshSection(user="u"))
    assert elsewhere.jump is not None
    assert elsewhere.jump.host == "e"
    assert elsewhere.jump.settings.jump is not None
    assert elsewhere.jump.settings.jump.settings.port == 9
    assert settings(own=SshSection(proxy_jump="none")).jump is None


def test_a_section_that_matches_by_user_is_asked_for_with_the_user(home):
    """What harness.toml says is told to OpenSSH, as if on its command line."""
    (home / ".ssh/config").write_text("Match user admin\n Port 4\nMatch user web\n Port 5\n")
    assert settings(own=SshSection(user="admin")).port == 4
    assert settings(own=SshSection(user="web")).port == 5


@pytest.mark.parametrize(
    ("config", "user"),
    [
        ("Host web1\n User name\nHost 10.0.0.*\n User address\n", "name"),
        ("Host *\n User all\nHost web*\n Port 22\nHost 10.0.0.*\n User address\n", "all"),
        ("Host web*\n User name\n", "name"),
        ("Host 10.0.0.*\n User address\nHost *\n User all\n ControlPath ~/%C\n", "address"),
        ("Match exec true\n User all\nHost 10.0.0.*\n User address\n", "all"),
        ("Host *\n User all\n", "all"),
        ("Host * !web1\n User others\nHost 10.0.0.*\n User address\n", "others"),
    ],
)
def test_a_name_of_which_something_is_said_goes_before_its_address(home, config, user):
    """What is said of all names is said of none in particular. The last: only of web1 not."""
    (home / ".ssh/config").write_text(config)
    if "!web1" in config:
        user = settings("web1", "10.0.0.7").user
        assert user not in ("others", "address")
    else:
        assert settings("WEB1" if "all" in user else "web1", "10.0.0.7").user == user


@pytest.mark.parametrize(
    "name",
    [
        "-oProxyCommand=touch PWNED",
        "--",
        "a b",
        "web@prod",
        "ssh://web1",
        "x;touch PWNED",
        "a\nb",
        "",
    ],
)
def test_a_name_that_ssh_would_take_for_something_else_is_not_asked_about(home, monkeypatch, name):
    """The guest is found by its address; the name is no option, no user and no command."""
    monkeypatch.chdir(home)
    (home / ".ssh/config").write_text(
        'Match exec "test -n %n"\n Port 99\nHost *\n User all\nHost 10.0.0.7\n Port 5\n'
    )
    (home / ".ssh/config").write_text("Host 10.0.0.7\n Port 5\nHost *\n User all\n")
    assert SshConnector().configured_address(name) is None
    assert (settings(name, "10.0.0.7").port, settings(name, "10.0.0.7").user) == (5, "all")
    assert not (home / "PWNED").exists()


@pytest.mark.parametrize("address", ["-oProxyCommand=touch PWNED", "a b", "a\0b", "x@y"])
def test_an_address_that_is_none_is_an_error_and_no_option(home, monkeypatch, address):
    """It may come out of a guest's own mouth."""
    monkeypatch.chdir(home)
    for config in ("", "Host web1\n User a\n"):
        (home / ".ssh/config").write_text(config)
        with pytest.raises((ConfigError, ShellUnreachable), match="web1: "):
            SshConnector().open("web1", address, SshSection(), SshSection(), soon())
    assert not (home / "PWNED").exists()


@pytest.mark.parametrize("value", ["a b", "x,#", 'a"b', "a\0b", "-J", "[::1", "u@:22"])
def test_a_jump_that_is_none_is_named(value):
    """Before OpenSSH has to take it apart."""
    with pytest.raises(ConfigError, match="(?i)jump"):
        settings(own=SshSection(proxy_jump=value))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (b"ProxyCommand nc %h | tee x", "ProxyCommand 'nc %h | tee x': it needs a shell"),
        (b"ProxyCommand nc $HOST", "ProxyCommand .*: it needs a shell"),
        (b"ProxyCommand 'nc", "ProxyCommand .*: No closing quotation|line 1"),
        (b"ProxyCommand ''", "ProxyCommand .*: it names no program"),
        (b"ProxyCommand nc %z", "ProxyCommand .*: %z is no token"),
        (b"ProxyUseFdpass yes\nProxyCommand nc", "ProxyUseFdpass is not supported"),
        (b"BindInterface eth0", "BindInterface is not supported"),
        (b"PKCS11Provider /usr/lib/x.so", "PKCS11Provider is not supported"),
        (b"Host", "line 1: "),
        (b"Port x", "line 1: "),
        (b'Match host "', "line 1: "),
        (b"\xff", "line 1: "),
        (b"Ciphers chacha20-poly1305@openssh.com", None),
    ],
)
def test_a_configuration_of_ssh_that_cannot_be_used_is_named(home, text, says):
    """What is wrong, and in which file; never a traceback."""
    (home / ".ssh/config").write_bytes(text)
    if says:
        with pytest.raises(ConfigError, match=rf"\.ssh/config: .*{says}"):
            settings()


def test_algorithms_that_harness_lacks_are_named(home, tmp_path):
    """Rather than others used, which the configuration rules out."""
    with private_sshd(tmp_path / "sshd") as server:
        (home / "known").write_text(server.known())
        section = SshSection(port=server.port, known_hosts=home / "known")
        for line in (
            "Ciphers chacha20-poly1305@openssh.com",
            "MACs umac-64@openssh.com",
            "KexAlgorithms sntrup761x25519-sha512@openssh.com",
        ):
            (home / ".ssh/config").write_text(f"{line}\n")
            with pytest.raises(ShellUnreachable, match="(?i)harness has none of the .* configured"):
                SshConnector().open("web1", "127.0.0.1", section, SshSection(), soon())


def test_a_proxy_command_that_is_no_program_is_named(home):
    """It can be run, and yet it cannot."""
    (home / "none").write_bytes(b"\x7fELF nonsense")
    (home / "none").chmod(0o755)
    (home / ".ssh/config").write_text(f"Host *\n ProxyCommand {home}/none %p\n")
    with pytest.raises(ConfigError, match="none.*: Exec format error"):
        SshConnector().open("web1", "127.0.0.1", SshSection(), SshSection(), soon())


def test_a_proxy_command_ends_with_its_connection(home, tmp_path):
    """Also one that does not listen to the end of its input; what it leads to is no address."""
    with private_sshd(tmp_path / "sshd") as server:
        pid = tmp_path / "pid"
        (home / "relay.py").write_text(RELAY)
        (home / ".ssh/config").write_text(
            f"Host *\n ProxyCommand {sys.executable} {home}/relay.py %p {pid}\n"
        )
        (home / "known").write_text(server.known())
        section = SshSection(
            port=server.port, identity_file=server.client_key, known_hosts=home / "known"
        )
        shell = SshConnector().open("web1", "127.0.0.1", section, SshSection(), soon())
        assert shell.run("echo there", soon()).stdout == "there\n"
        assert (shell.way.through, shell.way.peer) == (("ProxyCommand",), None)
        process = Path("/proc", pid.read_text().strip())
        assert process.exists()
        shell.close()
        assert not process.exists()


def test_jumps_that_lead_to_each_other_end(home):
    """ssh itself would start one process after the other."""
    for config in (
        "Host *\n ProxyJump web2\n",
        "Host a\n ProxyJump b\nHost b web1\n ProxyJump a\n",
    ):
        (home / ".ssh/config").write_text(config)
        with pytest.raises(ConfigError, match="to jump|jumphost loop"):
            settings()


def test_openssh_is_asked_once_a_run(home, tmp_path):
    """A run sees one configuration, even if it is edited meanwhile."""
    seen = tmp_path / "seen"
    (home / ".ssh/config").write_text(f'Match exec "echo %n >>{seen}"\n User all\n')
    access = Access()
    for _ in range(3):
        assert access.configured_address("web1", soon()) is None
        assert settings("web1", "10.0.0.7", access=access).user == "all"
    asked = seen.read_text().split()
    assert sorted(asked)[0:1] + sorted(asked)[2:] == ["10.0.0.7", "web1"]
    (home / ".ssh/config").write_text("User other\n")
    assert settings("web1", "10.0.0.7", access=access).user == "all"
    assert settings("web1", "10.0.0.7").user == "other"


def test_a_command_in_the_configuration_that_hangs_is_given_up(home):
    """`Match exec` runs what it says: that is OpenSSH's own way, and ends by the deadline."""
    (home / ".ssh/config").write_text('Match exec "sleep 100; true"\n User x\n')
    watch = Stopwatch()
    with pytest.raises(DeadlineExpired, match="asking OpenSSH"):
        Access().configured_address("web1", soon(0.3))
    assert watch.elapsed_s() < 5

    def ended() -> None:
        if subprocess.run(["pgrep", "-f", "^sleep 100"], capture_output=True).returncode == 0:
            raise NotYet("the command still runs")

    wait_for(ended, what="the end of the command", deadline=soon(), interval_s=0.01)


def test_a_command_that_stays_in_the_background_is_not_waited_for(home):
    """Nor is it ended: ssh would not."""
    (home / ".ssh/config").write_text('Match exec "sleep 3 & true"\n Port 77\n')
    watch = Stopwatch()
    assert settings().port == 77
    assert watch.elapsed_s() < 2.5


def test_nobody_is_asked_for_anything(home, monkeypatch, tmp_path):
    """No terminal, no window: a locked key is passed over."""
    asked = tmp_path / "asked"
    (tmp_path / "ask").write_text(f"#!/bin/sh\ntouch {asked}\n")
    (tmp_path / "ask").chmod(0o755)
    monkeypatch.setenv("SSH_ASKPASS", str(tmp_path / "ask"))
    monkeypatch.setenv("SSH_ASKPASS_REQUIRE", "force")
    locked = make_key(tmp_path / "locked", passphrase="secret")
    with private_sshd(tmp_path / "sshd") as server:
        section = SshSection(port=server.port, host_key=server.fingerprint, identity_file=locked)
        with pytest.raises(ShellUnreachable, match=f"{locked}: it has a passphrase"):
            SshConnector().open("web1", "127.0.0.1", section, SshSection(), soon())
    assert not asked.exists()


def test_a_host_key_that_is_not_checked_is_a_doubt(home, tmp_path):
    """It is told with the way that led there; a file of harness's own is always asked."""
    (home / ".ssh/config").write_text(
        "Host *\n StrictHostKeyChecking no\n UserKnownHostsFile /dev/null\n"
    )
    with private_sshd(tmp_path / "sshd") as server:
        section = SshSection(port=server.port, identity_file=server.client_key)
        shell = SshConnector().open("web1", "127.0.0.1", section, SshSection(), soon())
        assert shell.way.doubt is not None
        assert "StrictHostKeyChecking is no" in shell.way.doubt
        shell.close()
        (home / "own").touch()
        strict = section.model_copy(update={"known_hosts": home / "own"})
        with pytest.raises(HostKeyRejected, match="unknown"):
            SshConnector().open("web1", "127.0.0.1", strict, SshSection(), soon())
        (home / "own").write_text(server.known("web1"))
        shell = SshConnector().open("web1", "127.0.0.1", strict, SshSection(), soon())
        assert shell.way.doubt is None
        shell.close()


def test_a_file_of_known_hosts_that_cannot_be_read_is_named(home, tmp_path):
    """ssh passes over it, and so do we; but then it says why nothing was known."""
    (home / "folder").mkdir()
    (home / ".ssh/config").write_text(f"Host *\n UserKnownHostsFile {home}/folder {home}/known\n")
    with private_sshd(tmp_path / "sshd") as server:
        section = SshSection(port=server.port, identity_file=server.client_key)
        with pytest.raises(HostKeyRejected, match="folder cannot be read: Is a directory"):
            SshConnector().open("web1", "127.0.0.1", section, SshSection(), soon())
        (home / "known").write_text(server.known())
        SshConnector().open("web1", "127.0.0.1", section, SshSection(), soon()).close()


@pytest.fixture
def without_openssh(monkeypatch, tmp_path):
    """A search path on which there is no ssh."""
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))


def test_without_openssh_a_plain_configuration_is_enough(home, tmp_path, monkeypatch):
    """Blocks for hosts, and what most people write into them; known hosts, hashed as well."""
    with private_sshd(tmp_path / "sshd") as server:
        (home / "known").write_text(f"{server.known()}@revoked x ssh-ed25519 AAAA\n")
        subprocess.run(["ssh-keygen", "-q", "-H", "-f", home / "known"], check=True)
        key = (home / "id").write_bytes(server.client_key.read_bytes()) and home / "id"
        key.chmod(0o600)
        (home / ".ssh/config").write_text(
            "# mine\nHost=db* !web1 'x y'\n  User nobody-there\n\nHost web?\n"
            "  HostName 127.0.0.1 # it\n"
            f'  Port = {server.port}\n  IdentityFile "{key}"\n UserKnownHostsFile {home}/known\n'
            "Host *\n  ServerAliveInterval 30\n"
        )
        other = public(make_key(home / "other"))
        os.environ["PATH"], before = "/nowhere", os.environ["PATH"]
        try:
            connector = SshConnector()
            assert not openssh.is_installed()
            assert connector.configured_address("web1") == "127.0.0.1"
            shell = connector.open("web1", "127.0.0.1", SshSection(), SshSection(), soon())
            shell.close()
            (home / "known").write_text(f"[127.0.0.*]:* {other}\n")
            with pytest.raises(HostKeyRejected, match="changed"):
                connector.open("web1", "127.0.0.1", SshSection(), SshSection(), soon())
        finally:
            os.environ["PATH"] = before


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("Host web1\n ProxyCommand nc %h\n", "line 2: ProxyCommand is not supported without"),
        ("Include config\n", "line 1: too many files"),
        ("Host other\n User x\nMatch host web1\n User y\n", "line 3: Match"),
        ("Host other\n Frobnicate yes\n", "line 2: Frobnicate"),
        ("IdentityFile ~/%h\n", "line 1: ~/%h: tokens"),
        ("IdentityFile ${KEYS}/x\n", "line 1: .*tokens"),
        ("User\n", "line 1: User has no value"),
        ('User "x\n', "line 1: "),
        ("Ciphers aes128-ctr\n", "line 1: Ciphers"),
        ("\xff\n", "cannot be read"),
    ],
)
@pytest.mark.usefixtures("without_openssh")
def test_without_openssh_what_is_not_understood_is_named(home, text, says):
    """Never dropped, not even in a block for another host: it is one word away from ours."""
    (home / ".ssh/config").write_bytes(text.encode("latin-1"))
    with pytest.raises(ConfigError, match=rf"\.ssh/config: {says}.*") as caught:
        settings()
    assert "cannot be read" in says or "install OpenSSH" in str(caught.value)


@pytest.mark.usefixtures("without_openssh")
def test_without_openssh_harness_toml_still_wins(home):
    """User, port and jump; a jump host has a block of its own."""
    (home / ".ssh/config").write_text("Host web1\n Port 3\n User c\nHost gate\n Port 4\n User d\n")
    own = SshSection(user="u", port=7, proxy_jump="x@gate:9")
    found = settings(own=own)
    assert (found.user, found.port) == ("u", 7)
    assert found.jump is not None
    assert (found.jump.settings.user, found.jump.settings.port) == ("x", 9)
