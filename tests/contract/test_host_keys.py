"""Host keys that a person trusts: asked of a real sshd, added to a real file; the command too."""

from __future__ import annotations

import getpass
import os
import pty
import re
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from harness.core.errors import HostKeyRejected, HostKeyUnknown, InfrastructureError
from harness.core.settings import SshSection
from harness.core.timebase import Deadline
from harness.guest.connector import SshConnector
from harness.testing.sshd import make_key, private_sshd, public
from tests.terminal import CTRL_C, on_a_terminal

pytestmark = pytest.mark.timeout(60)

KINDS = ("ed25519", "ecdsa", "rsa")
NODE = """<node><domain type='test'><name>web-1</name><memory>1024</memory>
<uuid>6695eb01-f6a4-8304-79aa-97f2502e193f</uuid><os><type>hvm</type></os></domain></node>"""


def soon() -> Deadline:
    return Deadline.after(15)


def more_keys(folder: Path) -> None:
    for kind in KINDS[1:]:
        make_key(folder / f"host_{kind}", kind)


@pytest.fixture
def server(tmp_path, monkeypatch):
    """A server with a host key of each kind; the user's own ``~/.ssh`` is empty."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    (tmp_path / "home" / ".ssh").mkdir(parents=True)
    (tmp_path / "home" / ".ssh" / "config").write_text("HashKnownHosts no\n")
    lines = [f"HostKey {{folder}}/host_{kind}" for kind in KINDS[1:]]
    with private_sshd(tmp_path / "sshd", None, *lines, prepare=more_keys) as found:
        yield found


@pytest.fixture
def section(server, tmp_path):
    """How harness.toml says to log in to it, with a file of known hosts that is not there yet."""
    return SshSection(
        user=getpass.getuser(),
        port=server.port,
        identity_file=server.client_key,
        known_hosts=tmp_path / "kept" / "known_hosts",
    )


def keys_of(section, name="web1"):
    return SshConnector().host_keys(name, "127.0.0.1", SshSection(), section, soon())


def log_in(section, name="web1"):
    SshConnector().open(name, "127.0.0.1", SshSection(), section, soon()).close()


def test_every_kind_is_shown_and_once_trusted_a_login_succeeds(server, section):
    """The fingerprints are those that ssh-keygen prints; whichever kind is asked for is known."""
    with pytest.raises(HostKeyUnknown, match="harness trust web1"):
        log_in(section)
    shown = keys_of(section)
    assert not shown.known
    files = [server.folder / name for name in ("host_key", "host_ecdsa", "host_rsa")]
    assert {(key.kind, key.base64) for key in shown.keys} == {
        tuple(public(file).split()[:2]) for file in files
    }
    assert server.fingerprint in {key.fingerprint for key in shown.keys}
    SshConnector().trust(shown)
    assert keys_of(section).known
    log_in(section)
    assert section.known_hosts.stat().st_mode & 0o777 == 0o600
    for kind in ("ssh-ed25519", "ecdsa-sha2-nistp256", "rsa-sha2-512"):
        said = subprocess.run(
            ["ssh", "-F", "none", "-p", str(server.port), "-i", server.client_key, "-o"]
            + [f"UserKnownHostsFile={section.known_hosts}", "-o", "StrictHostKeyChecking=yes"]
            + ["-o", f"HostKeyAlgorithms={kind}", "-o", f"HostKeyAlias=[web1]:{server.port}"]
            + ["-o", "BatchMode=yes", "127.0.0.1", "true"],
            capture_output=True,
            text=True,
        )
        assert said.returncode == 0, (kind, said.stderr)


def test_a_changed_key_is_refused_and_nothing_is_written(server, section, tmp_path):
    """Also one of another kind than is known: whoever answers could choose which he shows."""
    for kind in KINDS:
        other = public(make_key(tmp_path / f"other_{kind}", kind))
        section.known_hosts.parent.mkdir(exist_ok=True)
        section.known_hosts.write_text(f"[web1]:{server.port} {other}\n")
        before = section.known_hosts.read_bytes()
        with pytest.raises(HostKeyRejected, match="has changed") as caught:
            keys_of(section)
        assert not isinstance(caught.value, HostKeyUnknown)
        assert section.known_hosts.read_bytes() == before


def test_a_revoked_key_is_refused(server, section):
    """It is unknown as well; that is no way around the mark."""
    section.known_hosts.parent.mkdir()
    section.known_hosts.write_text(f"@revoked * {public(server.folder / 'host_key')}\n")
    with pytest.raises(HostKeyRejected, match="revoked"):
        keys_of(section)


@pytest.mark.parametrize("name", ["*", "web1,web2", "a; touch x <&>'\"", "!x", "# web", "|1|a|b"])
def test_a_name_is_no_pattern(server, section, name):
    """The guest is known afterwards, and no other one is."""
    SshConnector().trust(keys_of(section, name))
    assert keys_of(section, name).known
    log_in(section, name)
    assert not keys_of(section, "somebody").known
    with pytest.raises(HostKeyUnknown):
        log_in(section, "web2")


def test_what_stands_in_the_file_stays_as_it_is(server, section):
    """Also a last line that nobody ended."""
    section.known_hosts.parent.mkdir()
    section.known_hosts.write_text("# mine\nother.example ssh-ed25519 AAAA")
    section.known_hosts.chmod(0o644)
    SshConnector().trust(keys_of(section))
    text = section.known_hosts.read_text()
    assert text.startswith("# mine\nother.example ssh-ed25519 AAAA\n[web1]:")
    assert section.known_hosts.stat().st_mode & 0o777 == 0o644
    assert keys_of(section).known


def test_names_are_hashed_where_ssh_would(server, section, tmp_path):
    """``HashKnownHosts yes``."""
    (tmp_path / "home" / ".ssh" / "config").write_text("HashKnownHosts yes\n")
    SshConnector().trust(keys_of(section))
    assert "web1" not in section.known_hosts.read_text()
    assert keys_of(section).known


@pytest.mark.parametrize("file", ["/dev/null", "folder"])
def test_a_file_that_keeps_nothing_is_an_error(server, section, tmp_path, file):
    """``UserKnownHostsFile /dev/null`` is what people write; the keys would be trusted nowhere."""
    (tmp_path / "folder").mkdir()
    section = section.model_copy(update={"known_hosts": tmp_path / file})
    with pytest.raises(InfrastructureError, match="host key"):
        SshConnector().trust(keys_of(section))


def test_a_jump_host_is_shown_first(server, section, tmp_path):
    """It is trusted by its own name, then the guest behind it."""
    config = tmp_path / "home" / ".ssh" / "config"
    config.write_text(
        f"Host bastion\nHostName 127.0.0.1\nPort {server.port}\nIdentityFile {server.client_key}\n"
        "HostKeyAlias bastion\n"
    )
    section = section.model_copy(update={"proxy_jump": "bastion"})
    first = keys_of(section)
    assert (first.jump_host, first.known) == ("bastion", False)
    SshConnector().trust(first)
    second = keys_of(section)
    assert (second.jump_host, second.known) == (None, False)
    SshConnector().trust(second)
    assert keys_of(section).known


@pytest.fixture
def command(server, section, tmp_path):
    """Run ``harness trust`` on a guest at that server, with what a person types on a terminal."""
    (tmp_path / "node.xml").write_text(NODE)
    (tmp_path / "harness.toml").write_text(
        f'uri = "test://{tmp_path}/node.xml"\n[[guest]]\nname = "web-1"\naddress = "127.0.0.1"\n'
        f'[guest.ssh]\nport = {server.port}\nknown_hosts = "{section.known_hosts}"\n'
    )

    def run(*words: str, typed: bytes | None = None) -> subprocess.CompletedProcess:
        main, terminal = pty.openpty()
        if typed is not None:
            os.write(main, typed)
        try:
            return subprocess.run(
                [sys.executable, "-m", "harness", "trust", *words],
                stdin=subprocess.DEVNULL if typed is None else terminal,
                capture_output=True,
                text=True,
                timeout=60,
                cwd=tmp_path,
            )
        finally:
            os.close(main)
            os.close(terminal)

    return run


def test_the_command_asks_and_adds_what_is_confirmed(server, section, command):
    """No by default; yes adds; afterwards there is nothing to ask."""
    assert command(typed=b"\n").returncode == 3
    assert not section.known_hosts.exists()
    done = command("web-1", typed=b"y\n")
    assert done.returncode == 0, done.stderr
    assert server.fingerprint in done.stdout
    assert f"web-1: added to {section.known_hosts}" in done.stdout
    again = command(typed=b"")
    assert (again.returncode, again.stderr) == (0, "")
    assert f"web-1: known ({server.fingerprint})" in again.stdout


def test_without_a_terminal_nothing_is_added_unasked(section, command):
    """The keys are shown, and what would add them; --json only looks."""
    done = command()
    assert done.returncode == 3
    assert "--yes is for images you made yourself" in done.stderr
    assert '"trust": "unknown"' in command("--json").stdout
    assert not section.known_hosts.exists()
    assert '"trust": "added"' in command("--json", "--yes").stdout


def test_yes_does_not_accept_a_changed_key(server, section, command, tmp_path):
    """Said with the way out; the file is as it was."""
    section.known_hosts.parent.mkdir()
    other = public(make_key(tmp_path / "other"))
    section.known_hosts.write_text(f"[web-1]:{server.port} {other}\n")
    done = command("--yes")
    assert done.returncode == 3
    assert "has changed" in done.stderr
    assert "ssh-keygen -f" in done.stderr
    assert section.known_hosts.read_text() == f"[web-1]:{server.port} {other}\n"


@pytest.mark.parametrize(
    ("names", "hashed"),
    [(["web-1"], True), (["127.0.0.1"], False), (["web-1", "127.0.0.1"], True)],
)
def test_the_way_out_of_a_changed_key_does_what_it_says(
    server, section, command, tmp_path, names, hashed
):
    """By whichever name it was known: what is printed is pasted, and then it can be trusted."""
    section.known_hosts.parent.mkdir()
    other = public(make_key(tmp_path / "other"))
    lines = [f"[{name}]:{server.port} {other}\n" for name in names]
    section.known_hosts.write_text("".join(lines))
    if hashed:
        subprocess.run(["ssh-keygen", "-H", "-f", section.known_hosts], check=True)
    refused = command("--yes")
    found = re.search(r"if you know why: (.*); then: harness trust web-1\)", refused.stderr)
    assert found is not None, refused.stderr
    subprocess.run(["sh", "-ec", found[1]], check=True)
    assert other not in section.known_hosts.read_text()
    done = command("--yes")
    assert (done.returncode, done.stderr) == (0, "")
    assert f"web-1: added to {section.known_hosts}" in done.stdout


@pytest.fixture
def init(server, section, tmp_path):
    """``harness init`` on a terminal, of a user whose SSH configuration leads to that server."""
    card = "<interface type='network'><source network='lan'/><target dev='net0'/></interface>"
    lan = """<network><name>lan</name><ip address='192.0.2.1' netmask='255.255.255.0'><dhcp>
<range start='192.0.2.128' end='192.0.2.200'/></dhcp></ip></network>"""
    node = NODE.replace("<node>", f"<node>{lan}")
    node = node.replace("</domain>", f"<devices>{card}</devices></domain>")
    (tmp_path / "node.xml").write_text(node)
    there = tmp_path / "there.py"
    there.write_text(_RELAY)
    (tmp_path / "home" / ".ssh" / "config").write_text(
        f"Host 192.0.2.*\nProxyCommand {sys.executable} {there} {server.port}\n"
        f"User {getpass.getuser()}\nIdentityFile {server.client_key}\n"
        f"UserKnownHostsFile {section.known_hosts}\n"
    )
    words = [sys.executable, "-m", "harness", "init", "--uri", f"test://{tmp_path}/node.xml"]
    environment = {**os.environ, "HARNESS_STATE_DIR": str(tmp_path / "state")}
    return partial(on_a_terminal, words, tmp_path, environment, columns=300)


#: Carries its standard input and output to a port of this machine.
_RELAY = """
import os, socket, sys, threading
there = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
def back():
    while data := there.recv(65536):
        os.write(1, data)
    os._exit(0)
threading.Thread(target=back).start()
while data := os.read(0, 65536):
    there.sendall(data)
there.shutdown(socket.SHUT_WR)
"""


@pytest.mark.parametrize(
    ("typed", "became", "then"),
    [
        (b"y\n", "web-1: added to ", "is the machine that harness runs on"),  # it is logged in to
        (b"\n", "web-1: not trusted", "its host key at 192.0.2."),
    ],
    ids=["yes", "Enter"],
)
def test_init_asks_before_it_logs_in(init, server, section, tmp_path, typed, became, then):
    """On a terminal: the keys, a question, the file, doctor; Enter alone trusts none."""
    with init() as terminal:
        shown = terminal.until("trust these keys? [y/N]")
        assert server.fingerprint in shown
        assert not section.known_hosts.exists()
        terminal.type(typed)
        assert terminal.end() == 3
    said = terminal.text.partition("trust these keys?")[2]
    order = [became, then, "is written for 1 guest", "problem  guest web-1: "]
    order += ["next: fix the above, then harness doctor"]
    places = [said.find(sign) for sign in order]
    assert -1 not in places, said
    assert places == sorted(places)
    assert section.known_hosts.exists() == ("added" in became)
    assert then in (tmp_path / "harness.toml").read_text()


def test_init_that_is_interrupted_at_its_question_writes_nothing(init, section, tmp_path):
    """Ctrl-C: a line of its own says so."""
    with init() as terminal:
        terminal.until("trust these keys? [y/N]")
        terminal.type_until(CTRL_C, "interrupted")
        assert terminal.end() == 130
    assert "\ninterrupted" in terminal.text.replace("\r", "")
    assert not section.known_hosts.exists()
    assert not (tmp_path / "harness.toml").exists()
