"""Harness beside plain `ssh`, on real servers: the same login, or the same refusal.

Each case is a configuration as people have them. `ssh` runs it as it is; harness is given no more
than the guest's name. What each case is expected to do is written down as well, so that two
refusals for a reason that nobody meant are not taken for agreement.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from harness.core.errors import HarnessError
from harness.core.settings import SshSection
from harness.core.timebase import Deadline, NotYet, wait_for
from harness.guest import openssh
from harness.guest.connector import SshConnector
from harness.testing.sshd import Sshd, make_key, private_sshd, public
from tests.contract.conftest import mounting

pytestmark = pytest.mark.timeout(60)

#: What lets a login succeed.
RIGHT = "User <user>\n IdentityFile <key>\n UserKnownHostsFile <home>/.ssh/known\n"
WEB1 = f"Host web1\n HostName 127.0.0.1\n Port <port>\n {RIGHT}"
KNOWN = "[127.0.0.1]:<port> <hostkey>\n"
NO_KEY = WEB1.replace(" IdentityFile <key>\n", "")


#: How the relay is called.
CALL = "<python> '<home>/a relay.py'"
#: What netcat does.
RELAY = """
import os, socket, sys, threading
far = socket.create_connection((sys.argv[1], int(sys.argv[2])))
def there():
    while data := os.read(0, 65536):
        far.sendall(data)
    far.shutdown(socket.SHUT_WR)
threading.Thread(target=there, daemon=True).start()
while data := far.recv(65536):
    os.write(1, data)
"""


@dataclass(frozen=True)
class Case:
    """A configuration, the known hosts, and whether they let one in."""

    config: str
    lets_in: bool = True
    known: str = KNOWN
    says: str = ""
    """Part of harness's error."""
    target: str = "web1"
    files: dict[str, str] = field(default_factory=dict)
    env: dict[str, str] = field(default_factory=dict)
    before: Callable[[Place], object] | None = None


@dataclass
class Place:
    """Where a case happens: a home, two servers, and what `<words>` stand for."""

    home: Path
    sshd: Sshd
    words: dict[str, str]

    def fill(self, text: str) -> str:
        for word, value in self.words.items():
            text = text.replace(f"<{word}>", value)
        return text


def _locked(place: Place) -> None:
    make_key(place.home / "locked", passphrase="secret")


def _public_only(place: Place) -> None:
    shutil.copy(f"{place.sshd.client_key}.pub", place.home / "only.pub")


def _open_to_others(place: Place) -> None:
    shutil.copy(place.sshd.client_key, place.home / "open")
    (place.home / "open").chmod(0o644)


def _hashed(place: Place) -> None:
    subprocess.run(["ssh-keygen", "-q", "-H", "-f", place.home / ".ssh/known"], check=True)
    assert "127.0.0.1" not in (place.home / ".ssh/known").read_text()


def _key_with_blank(place: Place) -> None:
    shutil.copy(place.sshd.client_key, place.home / "my key")


def _relay(place: Place) -> None:
    (place.home / "a relay.py").write_text(RELAY)


def _krl(place: Place) -> None:
    make = [
        "ssh-keygen",
        "-q",
        "-k",
        "-f",
        f"{place.home}/krl",
        f"{place.sshd.folder}/host_key.pub",
    ]
    subprocess.run(make, check=True)


CASES = {
    "baseline": Case(WEB1),
    "include": Case("Include <home>/config.d/*\n", files={"config.d/lab": WEB1}),
    "include in a block": Case(
        "Host web1\n Include <home>/inc\n", files={"inc": WEB1.partition("\n")[2]}
    ),
    "a star does not hide an address": Case(
        f"Host 127.0.*\n Port <port>\n {RIGHT}Host *\n ServerAliveInterval 30\n ControlPath x-%C\n",
        target="127.0.0.1",
    ),
    "a block for addresses": Case(f"Host 127.0.*\n Port <port>\n {RIGHT}", target="127.0.0.1"),
    "comment after a user": Case(WEB1.replace("<user>", "<user>  # the lab's account")),
    "comment after a port": Case(WEB1.replace("<port>", "<port>  # as usual")),
    "comment after a path": Case(WEB1.replace("<key>", "<key>  # mine")),
    "equals signs": Case(WEB1.replace("User ", "User=").replace("Port ", "Port = ")),
    "crlf": Case(WEB1.replace("\n", "\r\n")),
    "other cases and tabs": Case(WEB1.replace(" Port ", "\tPORT\t").replace("Host ", "HOST ")),
    "several patterns, quoted": Case(WEB1.replace("Host web1", 'Host db* "web1" *.org')),
    "negated": Case(f"Host * !web1\n User nobody-there\n{WEB1}"),
    "a name in a name": Case(f"Host 1\n HostName 127.0.0.%h\n Port <port>\n {RIGHT}", target="1"),
    "a host name to be resolved": Case(
        WEB1.replace("127.0.0.1", "localhost"), known="[localhost]:<port> <hostkey>\n"
    ),
    "unknown keyword": Case(
        f"{WEB1} Frobnicate yes\n", False, says="line 7: Bad configuration option: frobnicate"
    ),
    "unknown keyword, ignored": Case(f"IgnoreUnknown Frob*\n{WEB1} Frobnicate yes\n"),
    "match exec, false": Case(f'Match exec "test -e /nowhere/%h"\n User nobody-there\n{WEB1}'),
    "match exec, true": Case(f'Match exec "test %n = web1"\n User nobody-there\n{WEB1}', False),
    "match with a word that is not known": Case(
        f"Match localnetworks 203.0.113.0/24\n ProxyJump office.invalid\n{WEB1}", False
    ),
    "match host with an equals sign": Case(
        f"Match host=127.0.0.1\n {RIGHT}Host web1\n HostName 127.0.0.1\n Port <port>\n", False
    ),
    "match final": Case(
        f"Match final host 127.0.0.1\n User <user>\n Port <port>\n{NO_KEY}"
        " IdentityFile <key>\nHost web1\n HostName 127.0.0.1\n"
    ),
    "path with a blank": Case(
        WEB1.replace("<home>/.ssh/known", '"<home>/my hosts"'), known="", files={"my hosts": KNOWN}
    ),
    "path with a blank, among others": Case(
        WEB1.replace("<home>/.ssh/known", '<home>/none "<home>/my hosts" <home>/.ssh/known'),
        known="",
        files={"my hosts": KNOWN},
    ),
    "identity with a blank": Case(WEB1.replace("<key>", '"<home>/my key"'), before=_key_with_blank),
    "identity by a variable": Case(
        WEB1.replace("<key>", "${KEYS}/client_key"), env={"KEYS": "<keys>"}
    ),
    "identity by a variable that is not set": Case(
        WEB1.replace("<key>", "${NO_SUCH}/client_key"), False, says="NO_SUCH"
    ),
    "identity by tokens": Case(
        WEB1.replace("<key>", "<keys>/%r-%h-%n"), False, says="web1: no such"
    ),
    "known hosts by tokens": Case(
        WEB1.replace("<home>/.ssh/known", "<home>/%h-%p"),
        files={"127.0.0.1-<port>": KNOWN},
        known="",
    ),
    "identity that is not there": Case(
        WEB1.replace("<key>", "<home>/absent"), False, says="<home>/absent: no such file"
    ),
    "identity with a passphrase": Case(
        WEB1.replace("<key>", "<home>/locked"), False, before=_locked, says="locked: it has a pass"
    ),
    "identity that others may read": Case(
        WEB1.replace("<key>", "<home>/open"), False, before=_open_to_others, says="mode 0644"
    ),
    "the first of two identities is locked": Case(
        WEB1.replace("<key>", "<home>/locked\n IdentityFile <key>"), before=_locked
    ),
    "login by key is ruled out": Case(f"{WEB1} PubkeyAuthentication no\n", False, says="by key"),
    "other methods only": Case(f"{WEB1} PreferredAuthentications password\n", False, says="by key"),
    "a user who may not": Case(WEB1.replace("<user>", "nobody-there"), False, says="refused"),
    "address family": Case(f"{WEB1} AddressFamily inet6\n", False),
    "bind address": Case(f"{WEB1} BindAddress 127.0.0.1\n"),
    "host key unknown": Case(WEB1, False, known="", says="unknown"),
    "host key changed": Case(WEB1, False, known="[127.0.0.1]:<port> <otherkey>\n", says="changed"),
    "host key by pattern": Case(WEB1, known="[127.0.*]:* <hostkey>\n"),
    "host key by a negated pattern": Case(
        WEB1, False, known="[127.0.*]:*,![127.0.0.1]:* <hostkey>\n"
    ),
    "host key hashed": Case(WEB1, before=_hashed),
    "host key without the port": Case(WEB1, known="127.0.0.1 <hostkey>\n"),
    "host key by the guest's name only": Case(WEB1, False, known="[web1]:<port> <hostkey>\n"),
    "host key in the second file": Case(
        WEB1.replace("<home>/.ssh/known", "<home>/none <home>/.ssh/known"),
    ),
    "host key in the system's file": Case(
        f"{WEB1} GlobalKnownHostsFile <home>/all\n", known="", files={"all": KNOWN}
    ),
    "alias and port": Case(f"{WEB1} HostKeyAlias Web1\n", known="web1 <hostkey>\n"),
    "alias, known with the port": Case(
        f"{WEB1} HostKeyAlias web1\n", False, known="[web1]:<port> <hostkey>\n"
    ),
    "revoked": Case(WEB1, False, known=f"{KNOWN}@revoked * <hostkey>\n", says="revoked"),
    "revoked by a list": Case(
        f"{WEB1} RevokedHostKeys <home>/rev\n", False, files={"rev": "<hostkey>\n"}, says="revoked"
    ),
    "revoked by a KRL": Case(
        f"{WEB1} RevokedHostKeys <home>/krl\n", False, before=_krl, says="revoked"
    ),
    "another one revoked by a list": Case(
        f"{WEB1} RevokedHostKeys <home>/rev\n", files={"rev": "<otherkey>\n"}
    ),
    "list of the revoked is missing": Case(f"{WEB1} RevokedHostKeys <home>/none\n", False),
    "not checked at all": Case(
        f"{WEB1.replace('<home>/.ssh/known', '/dev/null')} StrictHostKeyChecking no\n", known=""
    ),
    "changed, not checked": Case(
        f"{WEB1} StrictHostKeyChecking off\n", known="[127.0.0.1]:<port> <otherkey>\n"
    ),
    "accept new": Case(f"{WEB1} StrictHostKeyChecking accept-new\n", known=""),
    "accept new, but changed": Case(
        f"{WEB1} StrictHostKeyChecking accept-new\n",
        False,
        known="[127.0.0.1]:<port> <otherkey>\n",
        says="changed",
    ),
    "localhost is trusted": Case(f"{WEB1} NoHostAuthenticationForLocalhost yes\n", known=""),
    "host key algorithms": Case(f"{WEB1} HostKeyAlgorithms ssh-rsa,rsa-sha2-512\n", False),
    "key exchange": Case(f"{WEB1} KexAlgorithms ecdh-sha2-nistp256\n"),
    "accepted algorithms": Case(
        f"{WEB1} PubkeyAcceptedAlgorithms rsa-sha2-512\n", False, says="PubkeyAcceptedAlgorithms"
    ),
    "jump": Case(
        f"{WEB1} ProxyJump <user>@127.0.0.1:<jumpport>\nHost *\n {RIGHT}",
        known=f"{KNOWN}[127.0.0.1]:<jumpport> <jumpkey>\n",
    ),
    "jump by a URI": Case(
        f"{WEB1} ProxyJump ssh://<user>@127.0.0.1:<jumpport>\nHost *\n {RIGHT}",
        known=f"{KNOWN}[127.0.0.1]:<jumpport> <jumpkey>\n",
    ),
    "jump to an address in brackets": Case(
        f"{WEB1} ProxyJump [::1]:<jumpport>\nHost *\n {RIGHT}",
        known=f"{KNOWN}[::1]:<jumpport> <jumpkey>\n",
    ),
    "jump by a block of its own": Case(
        f"{WEB1} ProxyJump gate\nHost gate\n HostName 127.0.0.1\n Port <jumpport>\n {RIGHT}",
        known=f"{KNOWN}[127.0.0.1]:<jumpport> <jumpkey>\n",
    ),
    "jump with a key that is not its own": Case(
        f"{WEB1} ProxyJump gate\nHost gate\n HostName 127.0.0.1\n Port <jumpport>\n User <user>\n"
        " UserKnownHostsFile <home>/.ssh/known\n IdentityFile <home>/none\n IdentityAgent none\n",
        False,
        known=f"{KNOWN}[127.0.0.1]:<jumpport> <jumpkey>\n",
        says="jump host gate",
    ),
    "two jumps": Case(
        f"{WEB1} ProxyJump gate,ssh://hall\nHost gate hall\n HostName 127.0.0.1\n"
        f" Port <jumpport>\n {RIGHT}",
        known=f"{KNOWN}[127.0.0.1]:<jumpport> <jumpkey>\n",
    ),
    "jump host unknown": Case(
        f"{WEB1} ProxyJump 127.0.0.1:<jumpport>\nHost *\n {RIGHT}", False, says="jump host"
    ),
    "proxy command": Case(f"{WEB1} ProxyCommand {CALL} %h %p\n", before=_relay),
    "proxy command with quotes and tokens": Case(
        f'{WEB1} ProxyCommand {CALL} "%h" %p %r@%n 100%%\n', before=_relay
    ),
    "proxy command that is a word of a shell": Case(
        f"{WEB1} ProxyCommand exec {CALL} %h %p\n", False, before=_relay, says="no program exec"
    ),
    "proxy command that fails": Case(
        f"{WEB1} ProxyCommand <python> <home>/none.py %h\n", False, says="none.py'"
    ),
    "proxy command that is not there": Case(
        f"{WEB1} ProxyCommand /missing/nc %h %p\n", False, says="no program /missing/nc"
    ),
    "proxy command to another place": Case(
        WEB1.replace("127.0.0.1", "nowhere.invalid") + f" ProxyCommand {CALL} 127.0.0.1 %p\n",
        known="[nowhere.invalid]:<port> <hostkey>\n",
        before=_relay,
    ),
    "proxy command of a jump host": Case(
        f"{WEB1} ProxyJump gate\nHost gate\n HostName 127.0.0.1\n Port <jumpport>\n {RIGHT}"
        f" ProxyCommand {CALL} %h %p\n",
        known=f"{KNOWN}[127.0.0.1]:<jumpport> <jumpkey>\n",
        before=_relay,
    ),
    "no jump after all": Case(f"{WEB1} ProxyJump none\nHost *\n ProxyJump nowhere.invalid\n"),
    "no command after all": Case(f"{WEB1} ProxyCommand none\nHost *\n ProxyCommand false\n"),
}


def sign(authority: Path, key: Path, *options: str) -> None:
    """Certify the public half of ``key``."""
    call = ["ssh-keygen", "-q", "-s", str(authority), "-I", "x", *options, f"{key}.pub"]
    subprocess.run(call, check=True, capture_output=True)


BY_AUTHORITY = "@cert-authority [127.0.0.1]:* <authority>\n"
FOR = ("-h", "-n", "127.0.0.1,web1")
CERTIFIED_HOSTS = {
    "by a known authority": (FOR, Case(WEB1, known=BY_AUTHORITY)),
    "by its alias": (
        FOR,
        Case(f"{WEB1} HostKeyAlias web1\n", known="@cert-authority * <authority>\n"),
    ),
    "by no known authority": (FOR, Case(WEB1, False, known="@cert-authority * <otherkey>\n")),
    "by no known authority, but known": (
        FOR,
        Case(WEB1, known=f"@cert-authority * <otherkey>\n{KNOWN}"),
    ),
    "by an authority for other hosts": (
        FOR,
        Case(WEB1, False, known="@cert-authority *.org <authority>\n", says="unknown"),
    ),
    "for another name": (
        ("-h", "-n", "web2"),
        Case(WEB1, False, known=BY_AUTHORITY, says="for web2, not for 127.0.0.1"),
    ),
    "for every name": (("-h",), Case(WEB1, known=BY_AUTHORITY)),
    "for a user": (("-n", "127.0.0.1"), Case(WEB1, False, known=BY_AUTHORITY)),
    "expired": (
        (*FOR, "-V", "20200101:20210101"),
        Case(WEB1, False, known=BY_AUTHORITY, says="expired"),
    ),
    "not valid yet": (
        (*FOR, "-V", "+52w:+53w"),
        Case(WEB1, False, known=BY_AUTHORITY, says="not valid yet"),
    ),
    "by a revoked authority": (
        FOR,
        Case(WEB1, False, known=f"{BY_AUTHORITY}@revoked * <authority>\n", says="revoked"),
    ),
    "a revoked key": (
        FOR,
        Case(WEB1, False, known=f"{BY_AUTHORITY}@revoked * <hostkey>\n", says="revoked"),
    ),
    "by an algorithm that is ruled out": (
        FOR,
        Case(
            f"{WEB1} CASignatureAlgorithms rsa-sha2-512\n",
            False,
            known=BY_AUTHORITY,
            says="CASignatureAlgorithms",
        ),
    ),
    "without a use for it": (FOR, Case(WEB1)),
}


@pytest.fixture(scope="module")
def servers(tmp_path_factory):
    """A guest's server, and one to jump through; a client key for both."""
    folder = tmp_path_factory.mktemp("servers")
    with (
        private_sshd(folder / "guest") as guest,
        private_sshd(folder / "jump", guest.client_key, "ListenAddress [::1]:{port}") as jump,
    ):
        yield guest, jump


@pytest.fixture
def place(servers, tmp_path, monkeypatch):
    """A home of its own, that both look into."""
    guest, jump = servers
    home = tmp_path / "home"
    (home / ".ssh").mkdir(parents=True)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    words = {
        "home": str(home),
        "python": sys.executable,
        "user": guest.settings().user,
        "key": str(guest.client_key),
        "keys": str(guest.folder),
        "port": str(guest.port),
        "jumpport": str(jump.port),
        "hostkey": public(guest.folder / "host_key"),
        "jumpkey": public(jump.folder / "host_key"),
        "otherkey": public(make_key(tmp_path / "other")),
    }
    return Place(home, guest, words)


def by_ssh(place: Place, target: str) -> bool:
    """Whether plain `ssh` gets in."""
    alone = ["-o", "BatchMode=yes", "-o", "ConnectTimeout=5"]
    elsewhere = place.home != openssh.home()
    file = ["-F", str(place.home / ".ssh/config")] if elsewhere else []
    command = ["ssh", *file, *alone, target, "echo in"]
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    return done.stdout == "in\n"


def by_harness(target: str) -> HarnessError | None:
    """Why harness does not get in."""
    connector = SshConnector()
    guest = "web1" if target == "127.0.0.1" else target
    try:
        address = connector.configured_address(guest) or "127.0.0.1"
        shell = connector.open(guest, address, SshSection(), SshSection(), Deadline.after(15))
    except HarnessError as error:
        return error
    try:
        assert shell.run("echo in", Deadline.after(10)).stdout == "in\n"
    finally:
        shell.close()
    return None


def agree(place: Place, case: Case) -> None:
    """Harness first: where `StrictHostKeyChecking` allows it, ssh learns the host's key."""
    (place.home / ".ssh/config").write_bytes(place.fill(case.config).encode())
    (place.home / ".ssh/known").write_text(place.fill(case.known))
    for name, text in case.files.items():
        file = place.home / place.fill(name)
        file.parent.mkdir(exist_ok=True)
        file.write_text(place.fill(text))
    if case.before is not None:
        case.before(place)
    refusal = by_harness(case.target)
    assert by_ssh(place, case.target) == case.lets_in
    assert (refusal is None) == case.lets_in, refusal
    assert refusal is None or place.fill(case.says) in str(refusal)


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_harness_logs_in_where_ssh_does_and_nowhere_else(place, monkeypatch, case):
    """And says why, where it does not."""
    for name, value in case.env.items():
        monkeypatch.setenv(name, place.fill(value))
    agree(place, case)


#: A name that no other case has: what is mounted holds for all that run beside this one.
AS_USUAL = {
    "all by default": Case("Host far1\n HostName 127.0.0.1\n Port <port>\n"),
    "include beside it": Case(
        "Include config.d/*\n",
        files={".ssh/config.d/far1": "Host far1\n HostName 127.0.0.1\n Port <port>\n"},
    ),
    "home by its sign": Case(
        "Host far1\n HostName 127.0.0.1\n Port <port>\n IdentityFile ~/.ssh/id_ed25519\n"
        " UserKnownHostsFile ~/.ssh/known_hosts\n"
    ),
    "home by a token": Case(
        "Host far1\n HostName 127.0.0.1\n Port <port>\n IdentityFile %d/.ssh/id_ed25519\n"
    ),
    "the system's configuration": Case(
        "Host *\n ServerAliveInterval 5\n",
        files={"<system>/50-far1.conf": "Host far1\n HostName 127.0.0.1\n Port <port>\n"},
    ),
    "the system's configuration goes second": Case(
        "Host far1\n Port <port>\n",
        files={"<system>/50-far1.conf": "Host far1\n HostName 127.0.0.1\n Port 1\n"},
    ),
}


@pytest.fixture
def mounted(tmp_path, tmp_path_factory):
    """``mounted(path)``: a folder of ours in the place of ``path``, in this namespace only."""
    with ExitStack() as undo, mounting(tmp_path_factory) as mount:

        def mounted(path: Path) -> Path:
            if not path.exists():
                path.mkdir(mode=0o700)
                undo.callback(path.rmdir)
            ours = tmp_path / path.name
            ours.mkdir(mode=0o700)
            mount(ours, path)
            return path

        yield mounted


@pytest.mark.parametrize("case", AS_USUAL.values(), ids=AS_USUAL)
def test_the_accounts_own_files_and_the_systems_count(place, mounted, monkeypatch, case):
    """As for anybody who calls ssh: no `-F`, the home is that of the account."""
    place.home = openssh.home()
    monkeypatch.setenv("HOME", str(place.home))
    place.words["system"] = str(mounted(Path("/etc/ssh/ssh_config.d")))
    folder = mounted(place.home / ".ssh")
    shutil.copy(place.sshd.client_key, folder / "id_ed25519")
    (folder / "known_hosts").write_text(place.fill(KNOWN))
    agree(place, replace(case, target="far1"))


def test_the_systems_configuration_counts_for_another_home_too(place, mounted):
    """Where $HOME is not the account's, `ssh -F` would forget it."""
    system = mounted(Path("/etc/ssh/ssh_config.d"))
    (system / "50-far1.conf").write_text(place.fill(WEB1.replace("web1", "far1")))
    (place.home / ".ssh/known").write_text(place.fill(KNOWN))
    (place.home / ".ssh/config").write_text("Host *\n ServerAliveInterval 5\n")
    assert by_harness("far1") is None


@pytest.mark.parametrize(("options", "case"), CERTIFIED_HOSTS.values(), ids=CERTIFIED_HOSTS)
def test_a_host_certificate_counts_as_for_ssh(place, tmp_path, options, case):
    """The server shows it; the authority is in known_hosts."""
    folder, authority = tmp_path / "certified", make_key(tmp_path / "authority")
    with private_sshd(
        folder,
        place.sshd.client_key,
        "HostCertificate {folder}/host_key-cert.pub",
        prepare=lambda folder: sign(authority, folder / "host_key", *options),
    ) as sshd:
        place.words |= {
            "port": str(sshd.port),
            "hostkey": public(folder / "host_key"),
            "authority": public(authority),
        }
        agree(place, case)


def _copied(place: Place, name: str) -> Path:
    """The client's key under another name: ``home / name``, with its public half."""
    for end in ("", ".pub"):
        shutil.copy(f"{place.sshd.client_key}{end}", f"{place.home / name}{end}")
    return place.home / name


def _locked_copy(place: Place) -> None:
    lock = ["ssh-keygen", "-q", "-p", "-P", "", "-N", "secret", "-f", str(_copied(place, "mine"))]
    subprocess.run(lock, check=True, capture_output=True)
    (place.home / "mine.pub").unlink()


MINE = NO_KEY + " IdentityFile <home>/mine\n"
HELD = {
    "any that it holds": Case(NO_KEY),
    "a locked file, unlocked there": Case(MINE, before=_locked_copy),
    "the same, and no other": Case(f"{MINE} IdentitiesOnly yes\n", before=_locked_copy),
    "none that is not named": Case(
        f"{MINE} IdentitiesOnly yes\n", False, says="agent key mine: IdentitiesOnly"
    ),
    "one named by its public half": Case(
        f"{NO_KEY} IdentityFile <home>/mine.pub\n IdentitiesOnly yes\n",
        before=lambda place: _copied(place, "mine").unlink(),
    ),
    "none": Case(f"{NO_KEY} IdentityAgent none\n", False),
    "another agent": Case(f"{NO_KEY} IdentityAgent <home>/no-agent\n", False, says="no-agent: "),
    "by a path": Case(f"{NO_KEY} IdentityAgent <agent>\n", env={"SSH_AUTH_SOCK": ""}),
    "by a variable": Case(
        f"{NO_KEY} IdentityAgent $MY_AGENT\n", env={"SSH_AUTH_SOCK": "", "MY_AGENT": "<agent>"}
    ),
    "by its usual name": Case(f"{NO_KEY} IdentityAgent SSH_AUTH_SOCK\n"),
}


@pytest.fixture
def agent(place, tmp_path, monkeypatch):
    """An SSH agent that holds the client's key as ``mine``."""
    path = tmp_path / "agent"
    process = subprocess.Popen(["ssh-agent", "-D", "-a", path], stdout=subprocess.DEVNULL)
    try:
        monkeypatch.setenv("SSH_AUTH_SOCK", str(path))
        place.words["agent"] = str(path)

        def there() -> None:
            if not path.exists():
                raise NotYet("no agent")

        wait_for(there, what="the agent", deadline=Deadline.after(10), interval_s=0.01)
        add(place.sshd.client_key, "mine")
        yield path
    finally:
        process.terminate()
        process.wait(10)


def add(key: Path, comment: str) -> None:
    """Have the agent hold a key."""
    change = ["ssh-keygen", "-q", "-c", "-C", comment, "-f", str(key)]
    subprocess.run(change, check=True, capture_output=True)
    subprocess.run(["ssh-add", "-q", key], check=True)


@pytest.mark.parametrize("case", HELD.values(), ids=HELD)
def test_keys_of_an_agent_are_offered_as_by_ssh(place, agent, monkeypatch, case):
    """Which agent, and which of its keys."""
    for name, value in case.env.items():
        monkeypatch.setenv(name, place.fill(value))
    agree(place, case)


@pytest.mark.parametrize("named", [True, False])
def test_a_named_key_goes_before_the_many_of_an_agent(place, agent, tmp_path, named):
    """A server hears out six keys."""
    subprocess.run(["ssh-add", "-q", "-D"], check=True, capture_output=True)
    for number in range(7):
        add(make_key(tmp_path / f"key{number}"), f"number {number}")
    add(place.sshd.client_key, "mine")
    config = f"{NO_KEY} IdentityFile <key>\n" if named else NO_KEY
    agree(place, Case(config, named, says="" if named else "closed the connection"))


def test_a_key_that_the_agent_does_not_sign_with_is_passed_over(place, agent, monkeypatch):
    """The next one may do: the agent wants a person to confirm, and there is none."""
    monkeypatch.setenv("SSH_ASKPASS", "/bin/false")
    subprocess.run(["ssh-add", "-q", "-D"], check=True, capture_output=True)
    subprocess.run(["ssh-add", "-q", "-c", place.sshd.client_key], check=True)
    agree(place, Case(NO_KEY, False, says="does not sign"))


CERTIFIED_USERS = {
    "beside its key": Case(f"{NO_KEY} IdentityFile <home>/certified\n"),
    "in a file of its own": Case(
        f"{NO_KEY} IdentityFile <home>/certified\n CertificateFile <home>/apart.pub\n",
        before=lambda place: (place.home / "certified-cert.pub").rename(place.home / "apart.pub"),
    ),
    "without its key": Case(
        f"{NO_KEY} CertificateFile <home>/certified-cert.pub\n", False, says="private key"
    ),
    "missing": Case(
        f"{NO_KEY} IdentityFile <home>/certified\n CertificateFile <home>/none.pub\n",
        False,
        says="none.pub: No such file",
    ),
}


@pytest.fixture
def certified(place, tmp_path):
    """A server that lets those in who have a certificate, and a key with one."""
    authority, key = make_key(tmp_path / "authority"), make_key(place.home / "certified")
    sign(authority, key, "-n", place.words["user"])
    line = f"TrustedUserCAKeys {authority}.pub"
    with private_sshd(tmp_path / "sshd", make_key(tmp_path / "unused"), line) as sshd:
        place.words |= {"port": str(sshd.port), "hostkey": public(sshd.folder / "host_key")}
        yield key


@pytest.mark.parametrize("case", CERTIFIED_USERS.values(), ids=CERTIFIED_USERS)
def test_a_certificate_of_the_user_is_offered_as_by_ssh(place, certified, case):
    """With the private key that belongs to it."""
    agree(place, case)


@pytest.mark.parametrize("apart", [True, False])
def test_a_certificate_whose_key_an_agent_holds_is_offered(place, certified, agent, apart):
    """The agent has the certificate as well, or a file has."""
    subprocess.run(["ssh-add", "-q", certified], check=True)
    if apart:
        subprocess.run(["ssh-add", "-q", "-D"], check=True, capture_output=True)
        (place.home / "certified-cert.pub").rename(place.home / "apart.pub")
        subprocess.run(["ssh-add", "-q", certified], check=True)
    more = " IdentityFile <home>/certified\n CertificateFile <home>/apart.pub\n"
    certified.rename(place.home / "gone")
    agree(place, Case(NO_KEY + (more if apart else "")))
