"""What a guest's shell promises, on a real sshd: also when the guest is frozen, a stranger, broken
or hostile. Nothing but harness.core.errors comes out, and everything ends by its deadline.
"""

from __future__ import annotations

import copy
import errno
import gc
import re
import resource
import socket
import subprocess
import threading
import time
from contextlib import closing, contextmanager
from pathlib import Path

import paramiko
import pytest

from harness.core.errors import (
    CommandFailed,
    DeadlineExpired,
    HarnessError,
    HostKeyRejected,
    ProbeError,
    ShellUnreachable,
)
from harness.core.settings import SshSection
from harness.core.timebase import Deadline, NotYet, Stopwatch, wait_for
from harness.guest.connector import SshConnector
from harness.guest.protocol import GuestShell, Way
from harness.guest.shell import SshShell
from harness.testing.sshd import NONSENSE, make_key, peer, private_sshd

pytestmark = [pytest.mark.timeout(60), pytest.mark.usefixtures("home")]


def soon(seconds: float = 10) -> Deadline:
    return Deadline.after(seconds)


@contextmanager
def at_most(seconds: float):
    """The block ends in time, however it ends."""
    watch = Stopwatch()
    try:
        yield
    finally:
        assert watch.elapsed_s() < seconds


@pytest.fixture(scope="module")
def sshd(tmp_path_factory):
    """One for all tests here; whoever freezes it thaws it."""
    with private_sshd(tmp_path_factory.mktemp("sshd")) as server:
        yield server


@pytest.fixture
def log_in(sshd):
    """``log_in(host_key=…)``: log in with these settings changed; closed after the test."""
    opened = []

    def log_in(deadline: Deadline | None = None, **changes) -> SshShell:
        settings = sshd.settings(**changes)
        opened.append(SshShell.open("web1", "127.0.0.1", settings, deadline or soon()))
        return opened[-1]

    yield log_in
    for shell in opened:
        shell.close()


@pytest.fixture
def shell(log_in):
    return log_in()


def test_a_command_returns_its_output_and_status(shell):
    """stdout and stderr apart; bytes that are no text are replaced; killed is no success."""
    done = shell.run(r"echo out; printf 'err\377' >&2; exit 7", soon(), check=False)
    assert (done.returncode, done.stdout, done.stderr) == (7, "out\n", "err\ufffd")
    assert shell.run("kill -9 $$", soon(), check=False).returncode != 0


def test_a_limit_of_many_days_is_no_error(log_in):
    """A socket's timeout is milliseconds in a C int; the longest that harness.toml may say fits."""
    shell = log_in(Deadline.after(1e7), connect_timeout_s=1e7)
    assert shell.run("echo out", Deadline.after(1e7)).stdout == "out\n"


def test_a_command_that_fails_raises_with_everything_it_said(shell):
    """Status, both outputs, and its last words in the message; the connection lives on."""
    with pytest.raises(CommandFailed, match="web1: .*status 3: bye") as caught:
        shell.run("echo out; echo bye >&2; exit 3", soon())
    error = caught.value
    assert (error.returncode, error.stdout, error.stderr) == (3, "out\n", "bye\n")
    assert shell.run("cat", soon()).returncode == 0


def test_a_stream_answers_until_it_is_closed(shell):
    """A line for a line, stamped around the exchange; closing ends the process."""
    stream = shell.stream("echo $$; exec cat", soon())
    process = Path("/proc", stream.listen(soon())[0])
    sent_ns, answer, received_ns = stream.ask("hello", soon())
    assert (answer, sent_ns < received_ns, process.exists()) == ("hello", True, True)
    stream.close()
    stream.close()

    def ended() -> None:
        if process.exists():
            raise NotYet("still there")

    wait_for(ended, what="the end of cat", deadline=soon(), interval_s=0.01)


def waits_of(thread: int) -> int:
    """How often a thread of this process has waited for something."""
    status = Path("/proc/self/task", str(thread), "status").read_text()
    return int(re.search(r"^voluntary_ctxt_switches:\s*(\d+)", status, re.MULTILINE)[1])


def test_an_open_connection_that_says_nothing_is_hardly_any_work(shell):
    """paramiko's thread would look up ten times a second, for every guest, through its pause."""
    thread = shell._connection.transport.native_id
    before = waits_of(thread)
    time.sleep(2)
    assert waits_of(thread) - before <= 5


def test_a_connection_that_is_closed_ends_at_once_on_both_sides(sshd, shell):
    """Its thread, which waits for what the guest says, is woken."""
    transport, servers = shell._connection.transport, sshd.connections()
    time.sleep(0.1)  # after a login the server goes on for a moment, which would wake it
    shell.close()
    transport.join(0.5)
    assert not transport.is_alive()

    def ended() -> None:
        if set(servers) & set(sshd.connections()):
            raise NotYet("sshd has not heard of it")

    wait_for(ended, what="the end of the server", deadline=soon(0.5), interval_s=0.01)


def test_a_stream_that_ends_says_its_last_words(shell):
    """Also when it had ended before it was asked."""
    stream = shell.stream("echo 'no module ctypes' >&2; exit 3", soon())
    with pytest.raises(ProbeError, match="web1: .*ended: no module ctypes"):
        stream.listen(soon())
    shell.run("true", soon())  # the end has been heard of now
    with pytest.raises(ProbeError, match="ended"):
        stream.ask("hello", soon())


def test_a_connection_that_breaks_is_not_the_end_of_a_command(shell):
    """A result that nobody gave must not be taken for one."""
    stream = shell.stream("cat", soon())
    assert stream.ask("hello", soon())[1] == "hello"
    with pytest.raises(ShellUnreachable):
        shell.run("kill -9 $PPID", soon(), check=False)
    with pytest.raises(ShellUnreachable):
        stream.ask("hello", soon())


def test_a_flood_of_output_is_given_up_not_kept(shell):
    """By its size, be it lines or one that never ends; what is not even read fills no memory."""
    before_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ShellUnreachable, match="bytes of output"):
        shell.run("yes", soon(30))
    with pytest.raises(ProbeError, match="floods"):
        shell.stream("yes | tr -d '\\n'", soon()).listen(soon(30))
    with pytest.raises(DeadlineExpired):
        shell.run("yes >&2", soon(1))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < before_kib + 100_000
    assert shell.run("echo alive", soon()).stdout == "alive\n"


@pytest.mark.parametrize("name", ["127.0.0.1", "web1"])
def test_a_host_key_is_known_by_address_or_name_hashed_or_not(sshd, log_in, name, tmp_path):
    """As ssh writes it, port and all; lines that mean nothing to us do no harm."""
    file = tmp_path / "known"
    other = make_key(tmp_path / "other")
    strange = "@cert-authority *.example.com ssh-ed25519 AAAA\nnonsense\nx ssh-ed25519 AAA=A\n"
    file.write_text(strange + sshd.known(name, other) + sshd.known(name))
    log_in(known_hosts=(tmp_path / "none", file))
    file.write_text(sshd.known(name))
    subprocess.run(["ssh-keygen", "-q", "-H", "-f", file], check=True, capture_output=True)
    assert name not in file.read_text()
    log_in(known_hosts=(file,))
    with pytest.raises(HostKeyRejected):
        file.write_text(f"{sshd.known(name)}@revoked {sshd.known(name)}")
        log_in(known_hosts=(file,))


def test_an_unknown_host_key_is_refused_before_anything_is_offered(tmp_path):
    """No user name, no key leaves us; test_host_keys.py holds what the hint's command does."""
    file = tmp_path / "known"
    with private_sshd(tmp_path / "stranger") as stranger:
        settings = stranger.settings(known_hosts=(file,))
        with pytest.raises(HostKeyRejected, match="web1: .*unknown: SHA256:") as caught:
            SshShell.open("web1", "127.0.0.1", settings, soon())
        assert stranger.fingerprint in str(caught.value)

        def log_of_the_end() -> str:
            log = stranger.log
            if "[preauth]" not in log and "publickey" not in log:
                raise NotYet(log)
            return log

        log = wait_for(log_of_the_end, what="our end in the log", deadline=soon(), interval_s=0.01)
        assert " user " not in log
        assert "publickey" not in log
        assert caught.value.hint.partition("then: ")[2] == "harness trust web1"


@pytest.mark.parametrize("kind", ["ed25519", "ecdsa"])
def test_a_changed_host_key_is_refused_and_says_so(sshd, log_in, tmp_path, kind):
    """Also if it is now one of another kind; the hint's command forgets the old one."""
    file = tmp_path / "known"
    file.write_text(sshd.known(key=make_key(tmp_path / "old", kind)))
    with pytest.raises(HostKeyRejected, match="has changed") as caught:
        log_in(known_hosts=(file,))
    forget = caught.value.hint.partition(": ")[2].partition("; then")[0]
    subprocess.run(["sh", "-c", forget], check=True, capture_output=True)
    assert file.read_text() == ""


def test_a_pinned_host_key_is_all_that_counts(sshd, log_in):
    """The right one needs no known_hosts, and the wrong one is refused in spite of them."""
    log_in(host_key=sshd.fingerprint, known_hosts=())
    with pytest.raises(HostKeyRejected, match="not SHA256:wrong as configured"):
        log_in(host_key="SHA256:wrong")


def test_a_refused_login_names_guest_and_way_out_but_no_secret(sshd, log_in, tmp_path):
    """Which key was tried is nobody's business."""
    stranger = make_key(tmp_path / "stranger")
    with pytest.raises(ShellUnreachable, match=r"web1: .*refused.*hint: .*config") as caught:
        log_in(identity_files=(stranger,))
    for line in stranger.read_text().splitlines():
        assert line not in str(caught.value)


def test_keys_that_cannot_be_used_are_passed_over_without_a_question(log_in, sshd, home, capfd):
    """One with a passphrase (new and old format), one that is none, one that is not there."""
    locked = make_key(home / "locked", passphrase="secret")
    old = make_key(home / "old", "ecdsa")
    change = ["ssh-keygen", "-q", "-p", "-m", "PEM", "-P", "", "-N", "secret", "-f", str(old)]
    subprocess.run(change, check=True, capture_output=True)
    none = home / "none"
    none.write_text("no key")
    log_in(identity_files=(locked, old, none, home / "absent", home, sshd.client_key))
    assert capfd.readouterr() == ("", "")


@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
def test_an_agent_that_hangs_costs_no_more_than_the_deadline(log_in, tmp_path):
    """As one that was forwarded over a connection that is dead by now."""
    before = set(threading.enumerate())
    with socket.socket(socket.AF_UNIX) as agent:
        agent.bind(str(tmp_path / "agent"))
        agent.listen()
        with pytest.raises(DeadlineExpired), at_most(5):
            log_in(soon(1), agent=str(tmp_path / "agent"))
    for thread in set(threading.enumerate()) - before:
        thread.join(5)
    gc.collect()  # paramiko leaves the socket to it


def test_nobody_listening_is_told_at_once(log_in):
    """A guest that has not started its sshd."""
    with pytest.raises(ShellUnreachable, match="web1: .*port 1:"), at_most(2):
        log_in(port=1)


@pytest.mark.parametrize("says", NONSENSE.values(), ids=NONSENSE)
def test_a_peer_that_does_not_speak_ssh_is_unreachable(log_in, says):
    """Whatever it says before it closes."""
    with peer(says, stays=False) as port, pytest.raises(ShellUnreachable), at_most(5):
        log_in(port=port)


@pytest.mark.parametrize("says", ["nothing", "banner"])
def test_a_peer_that_never_speaks_is_given_up_at_the_deadline(log_in, says):
    """A guest that is frozen accepts connections: its kernel's queue does."""
    with peer(NONSENSE[says], stays=True) as port, at_most(3), pytest.raises(DeadlineExpired):
        log_in(soon(0.5), port=port)


def test_a_guest_that_freezes_ends_nothing_later_than_the_deadline(sshd, log_in):
    """Commands, questions, new logins; closing is quick; and it all goes on when it does."""
    shell, other = log_in(), log_in()
    stream = shell.stream("cat", soon())
    with sshd.thawed_afterwards():
        sshd.freeze()
        for call in (
            lambda: shell.run("true", soon(0.3)),
            lambda: shell.stream("cat", soon(0.3)),
            lambda: stream.ask("hello", soon(0.3)),
            lambda: log_in(soon(0.3)),
        ):
            with pytest.raises((DeadlineExpired, ShellUnreachable)), at_most(3):
                call()
        with at_most(5):
            other.close()
    assert stream.listen(soon())[0] == "hello"
    with at_most(5):
        stream.close()
        shell.close()


@pytest.mark.parametrize("operation", ["run", "stream"])
def test_a_guest_may_freeze_at_the_worst_moment(sshd, shell, monkeypatch, operation):
    """Its sshd has opened the channel, and never confirms the command."""
    opening = paramiko.Transport.open_session

    def then_freeze(transport, **arguments):
        channel = opening(transport, **arguments)
        sshd.freeze()
        return channel

    monkeypatch.setattr(paramiko.Transport, "open_session", then_freeze)
    with sshd.thawed_afterwards():
        with pytest.raises((DeadlineExpired, ShellUnreachable)), at_most(3):
            getattr(shell, operation)("cat", soon(0.5))
        with at_most(5):
            shell.close()


def test_a_shell_tells_how_it_was_reached(sshd, log_in):
    """A port of this machine is no address of a guest; the peer's is not the name that led there.

    By name, as people write ``localhost``; whose host key was shown is told as well.
    """
    with closing(log_in()) as shell:
        assert shell.way == Way(
            "127.0.0.1", sshd.port, peer="127.0.0.1", is_here=True, host_key=sshd.fingerprint
        )
    with closing(SshShell.open("web1", "localhost", sshd.settings(), soon())) as shell:
        assert (shell.way.address, shell.way.peer) == ("localhost", "127.0.0.1")
        assert shell.way.place == ("127.0.0.1", sshd.port, ())


def test_a_jump_host_leads_to_the_guest(sshd, tmp_path):
    """Its own host key must be known as well; nothing is opened through a stranger."""
    with private_sshd(tmp_path / "jump", sshd.client_key) as jump:
        known = tmp_path / "known"
        known.write_text(sshd.known())
        section = SshSection(
            port=sshd.port,
            proxy_jump=f"127.0.0.1:{jump.port}",
            known_hosts=known,
            identity_file=sshd.client_key,
        )

        def log_in(section: SshSection = section) -> GuestShell:
            return SshConnector().open("web1", "127.0.0.1", section, SshSection(), soon())

        with pytest.raises(HostKeyRejected, match=r"web1: jump host 127.0.0.1: .*unknown"):
            log_in()
        known.write_text(sshd.known() + jump.known())
        shell = log_in()
        assert shell.run("echo there", soon()).stdout == "there\n"
        assert shell.way == Way("127.0.0.1", sshd.port, ("127.0.0.1",), host_key=sshd.fingerprint)
        with pytest.raises(ShellUnreachable, match="port 1:"):
            log_in(section.model_copy(update={"port": 1}))
        jump.freeze()
        with pytest.raises(DeadlineExpired), at_most(3):
            shell.run("echo there", soon(0.5))
        with at_most(5):
            shell.close()


FAULTS = [paramiko.SSHException("x"), paramiko.ChannelException(1, "x"), EOFError(), TimeoutError()]
FAULTS += [OSError(errno.ENETUNREACH, "x"), socket.gaierror(socket.EAI_NONAME, "x")]
PLACES = [
    (paramiko.packet.Packetizer, "read_message"),
    *((paramiko.Transport, n) for n in ("get_remote_server_key", "auth_publickey", "open_session")),
    *((paramiko.Channel, name) for name in ("exec_command", "recv", "sendall")),
]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: type(fault).__name__)
@pytest.mark.parametrize("place", PLACES, ids=lambda place: place[1])
def test_no_foreign_exception_comes_out(log_in, monkeypatch, fault, place):
    """Wherever paramiko or the network fails, it is one of ours that names the guest."""

    def fail(*arguments, **named):
        raise copy.copy(fault)

    monkeypatch.setattr(*place, fail)
    with pytest.raises(HarnessError, match="web1: ") as caught:
        log_in().stream("cat", soon()).ask("hello", soon())
    assert type(caught.value.__cause__) is type(fault)


@pytest.mark.parametrize("address", ["no-such-host.invalid", "a..b", "a\0b", "1" * 300])
def test_an_address_that_leads_nowhere_is_unreachable(sshd, address):
    """Also one that cannot be an address at all."""
    with pytest.raises((ShellUnreachable, DeadlineExpired), match="web1: "):
        SshShell.open("web1", address, sshd.settings(), soon(2))
