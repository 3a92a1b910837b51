"""The hypervisor's side, without a hypervisor: what libvirt says, in our words."""

from __future__ import annotations

import errno
import fcntl
import gc
import os
import platform
import socket
from pathlib import Path
from xml.sax.saxutils import quoteattr

import libvirt
import pytest

from harness.core.errors import (
    AgentSilent,
    ConnectionLost,
    GuestNotFound,
    HypervisorError,
    MissingCapability,
    WrongState,
)
from harness.core.process_stat import start_ticks
from harness.host import accelerator, facts
from harness.host.accelerator import Probe, probe, resolve
from harness.host.lifecycle import GuestState, StateReading
from harness.host.protocol import ProcessIdentity
from harness.host.qemu_process import find_process, monitor_of, state_folder, was_restored
from harness.host.states import REASONS, STATES, reading
from harness.host.translate import translate, translated

UUID = "11111111-2222-3333-4444-555555555555"
HOSTILE = ["a; touch x", "<&>\"'", "$(reboot)", "-c", "../../etc/passwd", "ünïcödé \N{SNOWMAN}"]


def foreign(code: int, domain: int = 0, *, text: str = "it says so", number: int = -1):
    """libvirt's own exception, as it comes out of a call."""
    error = libvirt.libvirtError(text)
    error.err = (code, domain, text, 2, None, None, None, number, -1)
    return error


class Domain:
    """What a virDomain answers; raises ``error`` where it has one."""

    def __init__(self, xml: str, name: str = "web1", error: Exception | None = None) -> None:
        self._xml = xml
        self._name = name
        self._error = error

    def state(self) -> tuple[int, int]:
        return libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_PAUSED_USER

    def XMLDesc(self) -> str:
        if self._error:
            raise self._error
        return self._xml

    def name(self) -> str:
        return self._name

    def UUIDString(self) -> str:
        return UUID

    def maxMemory(self) -> int:
        return 131_072


class Connection:
    """What a virConnect answers about its host."""

    def __init__(self, hostname: str, capabilities: str) -> None:
        self.getHostname = lambda: hostname
        self.getCapabilities = lambda: capabilities
        self.getLibVersion = lambda: 9_000_005
        self.getVersion = lambda: 7_002_017
        self.getType = lambda: "QEMU"


# -- acceleration


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """An x86 machine of our own: ``/dev/kvm`` that works, and ``/sys/module`` that is empty."""
    (tmp_path / "modules").mkdir()
    (tmp_path / "kvm").touch()
    answers = {0xAE00: lambda: 12, 0xAE01: lambda: os.open("/dev/null", os.O_RDONLY)}
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(fcntl, "ioctl", lambda fd, request, value: answers[request]())
    return Machine(tmp_path, answers)


class Machine:
    def __init__(self, folder: Path, answers: dict) -> None:
        self.folder = folder
        self.answers = answers

    def load(self, module: str) -> None:
        (self.folder / "modules" / module).mkdir()

    def probe(self) -> Probe:
        return probe(self.folder / "kvm", self.folder / "modules")


@pytest.mark.parametrize("module", ["kvm_intel", "kvm_amd"])
def test_kvm_is_usable_with_a_module_and_a_device_that_makes_a_vm(machine, module):
    """And says which module it is."""
    machine.load(module)
    assert machine.probe() == Probe("kvm", module)


def test_a_device_without_its_module_proves_nothing(machine):
    """It opens, tells its version and makes a VM; still no guest boots in it."""
    machine.load("kvm")
    found = machine.probe()
    assert (found.accelerator, "kvm_intel" in found.reason) == ("tcg", True)


def test_elsewhere_than_on_x86_kvm_is_built_in(machine, monkeypatch):
    """No module to look for."""
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    assert machine.probe() == Probe("kvm", "built into the kernel")


def test_no_device_is_no_kvm(machine):
    """The reason is the system's."""
    machine.load("kvm_intel")
    (machine.folder / "kvm").unlink()
    found = machine.probe()
    assert (found.accelerator, os.strerror(errno.ENOENT) in found.reason) == ("tcg", True)


def test_a_device_of_another_kind_is_no_kvm(machine, monkeypatch):
    """A plain file of that name knows no such request."""
    monkeypatch.undo()
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    machine.load("kvm_intel")
    found = machine.probe()
    assert (found.accelerator, os.strerror(errno.ENOTTY) in found.reason) == ("tcg", True)


def test_a_device_that_makes_no_vm_is_no_kvm(machine):
    """Nested where nesting is off, or used up by somebody else."""

    def busy():
        raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))

    machine.load("kvm_amd")
    machine.answers[0xAE01] = busy
    found = machine.probe()
    assert (found.accelerator, os.strerror(errno.EBUSY) in found.reason) == ("tcg", True)


def test_another_version_of_the_interface_is_no_kvm(machine):
    """An error of ours without a number is shown as its text."""
    machine.load("kvm_amd")
    machine.answers[0xAE00] = lambda: 11
    found = machine.probe()
    assert (found.accelerator, "API version 11, not 12" in found.reason) == ("tcg", True)


def test_probing_leaves_no_vm_and_no_descriptor_open(machine):
    """A VM that stays would keep the modules from being replaced by an update."""
    machine.load("kvm_intel")
    made = []
    make = machine.answers[0xAE01]
    machine.answers[0xAE01] = lambda: made.append(make()) or made[-1]
    machine.probe()
    with pytest.raises(OSError):
        os.fstat(made[0])
    assert str(machine.folder / "kvm") not in _open_files()


def _open_files() -> set[str]:
    folder = Path("/proc/self/fd")
    return {os.readlink(link) for link in folder.iterdir() if link.is_symlink()}


def test_wanting_kvm_where_there_is_none_is_a_missing_capability(monkeypatch):
    """``auto`` takes what there is, ``tcg`` does not even look, ``kvm`` insists."""
    monkeypatch.setattr(accelerator, "probe", lambda: Probe("tcg", "no module"))
    assert resolve("auto") == Probe("tcg", "no module")
    assert resolve("tcg") == Probe("tcg", "asked for")
    with pytest.raises(MissingCapability, match="no module") as caught:
        resolve("kvm")
    assert (caught.value.name, caught.value.exit_code) == ("kvm", 3)
    monkeypatch.setattr(accelerator, "probe", lambda: Probe("kvm", "kvm_intel"))
    assert resolve("kvm") == resolve("auto") == Probe("kvm", "kvm_intel")
    assert resolve("tcg").accelerator == "tcg"


# -- states

#: The states of libvirt 9 by number; a newer libvirt may add some, which must then be added here.
_STATE_NAMES = {
    **{"NOSTATE": 0, "RUNNING": 1, "BLOCKED": 2, "PAUSED": 3, "SHUTDOWN": 4},
    **{"SHUTOFF": 5, "CRASHED": 6, "PMSUSPENDED": 7},
}


def test_every_state_of_libvirt_has_a_word():
    """A state that is missing would be ``unknown``, and nobody would resume it."""
    numbers = {getattr(libvirt, f"VIR_DOMAIN_{name}") for name in _STATE_NAMES}
    assert numbers == set(range(len(_STATE_NAMES)))
    assert getattr(libvirt, "VIR_DOMAIN_LAST", len(numbers)) == len(numbers)
    assert set(STATES) == numbers


@pytest.mark.parametrize(
    ("name", "state"),
    [
        ("NOSTATE", GuestState.UNKNOWN),
        ("RUNNING", GuestState.RUNNING),
        ("BLOCKED", GuestState.RUNNING),
        ("PAUSED", GuestState.PAUSED),
        ("SHUTDOWN", GuestState.SHUTTING_DOWN),
        ("SHUTOFF", GuestState.SHUT_OFF),
        ("CRASHED", GuestState.CRASHED),
        ("PMSUSPENDED", GuestState.SUSPENDED),
    ],
)
def test_each_state_is_the_right_word(name, state):
    """Guest S3 is not our pause, and a guest that is shutting down does not run."""
    assert reading(getattr(libvirt, f"VIR_DOMAIN_{name}"), 0).state is state


@pytest.mark.parametrize("name", ["RUNNING", "PAUSED", "SHUTOFF", "CRASHED", "PMSUSPENDED"])
def test_every_reason_of_a_state_has_a_word(name):
    """All of them, each state's own; only the one that says unknown is called so."""
    state, prefix = getattr(libvirt, f"VIR_DOMAIN_{name}"), f"VIR_DOMAIN_{name}_"
    reasons = {
        value
        for constant, value in vars(libvirt).items()
        if constant.startswith(prefix) and not constant.endswith("_LAST")
    }
    assert reasons
    assert {reason for known, reason in REASONS if known == state} == reasons
    for reason in reasons - {0}:
        assert reading(state, reason).reason not in ("unknown", "")


def test_the_same_number_is_another_reason_in_another_state():
    """5 is an I/O error of a paused guest, and ``saved`` of one that is shut off."""
    assert str(reading(libvirt.VIR_DOMAIN_PAUSED, 1)) == "paused (user)"
    assert str(reading(libvirt.VIR_DOMAIN_PAUSED, 5)) == "paused (ioerror)"
    assert str(reading(libvirt.VIR_DOMAIN_SHUTOFF, 5)) == "shut off (saved)"
    assert str(reading(libvirt.VIR_DOMAIN_RUNNING, 5)) == "running (unpaused)"


def test_what_a_newer_libvirt_may_say_is_unknown_and_no_error():
    """New states and reasons do not end a run while guests are paused."""
    assert reading(99, 1) == StateReading(GuestState.UNKNOWN, "unknown")
    assert reading(libvirt.VIR_DOMAIN_PAUSED, 99) == StateReading(GuestState.PAUSED, "unknown")


# -- errors


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (libvirt.VIR_ERR_NO_DOMAIN, GuestNotFound),
        (libvirt.VIR_ERR_OPERATION_INVALID, WrongState),
        (libvirt.VIR_ERR_NO_CONNECT, ConnectionLost),
        (libvirt.VIR_ERR_INVALID_CONN, ConnectionLost),
        (libvirt.VIR_ERR_RPC, ConnectionLost),
        (libvirt.VIR_ERR_AUTH_FAILED, ConnectionLost),
        (libvirt.VIR_ERR_ACCESS_DENIED, ConnectionLost),
        (libvirt.VIR_ERR_OPERATION_FAILED, HypervisorError),
        (libvirt.VIR_ERR_INTERNAL_ERROR, HypervisorError),
        (libvirt.VIR_ERR_AGENT_UNRESPONSIVE, AgentSilent),
        (libvirt.VIR_ERR_XML_ERROR, HypervisorError),
    ],
)
def test_the_code_chooses_the_error_and_the_text_is_passed_on(code, kind):
    """Whatever the text says, in whatever language."""
    said = "Domain not found: Verbindung verloren"
    error = translate(foreign(code, libvirt.VIR_FROM_QEMU, text=said), "pausing", "web1")
    assert type(error) is kind
    assert (error.operation, error.code, error.guest) == ("pausing", code, "web1")
    assert f"web1: pausing: {said}" in str(error)


@pytest.mark.parametrize(
    ("code", "part", "kind"),
    [
        (libvirt.VIR_ERR_SYSTEM_ERROR, libvirt.VIR_FROM_RPC, ConnectionLost),
        (libvirt.VIR_ERR_SYSTEM_ERROR, libvirt.VIR_FROM_REMOTE, ConnectionLost),
        (libvirt.VIR_ERR_SYSTEM_ERROR, libvirt.VIR_FROM_QEMU, HypervisorError),
        # "client socket is closed", "connection closed due to keepalive timeout"
        (libvirt.VIR_ERR_INTERNAL_ERROR, libvirt.VIR_FROM_RPC, ConnectionLost),
        (libvirt.VIR_ERR_INTERNAL_ERROR, libvirt.VIR_FROM_QEMU, HypervisorError),
    ],
)
def test_an_error_of_the_connection_is_told_from_one_of_the_host(code, part, kind):
    """By the part of libvirt that it comes from: a full disk there is no broken line here."""
    assert type(translate(foreign(code, part), "reading the state")) is kind


@pytest.mark.parametrize(
    ("code", "number", "hint"),
    [
        (libvirt.VIR_ERR_SYSTEM_ERROR, errno.ENOENT, "is libvirtd running"),
        (libvirt.VIR_ERR_SYSTEM_ERROR, errno.ECONNREFUSED, "is libvirtd running"),
        (libvirt.VIR_ERR_SYSTEM_ERROR, errno.EACCES, "usermod -aG libvirt"),
        (libvirt.VIR_ERR_AUTH_UNAVAILABLE, -1, "usermod -aG libvirt"),
    ],
)
def test_a_lost_connection_says_what_to_do(code, number, hint):
    """Start the daemon, or join the group."""
    error = translate(foreign(code, libvirt.VIR_FROM_RPC, number=number), "connecting")
    assert isinstance(error, ConnectionLost)
    assert hint in str(error)


def test_a_connection_that_broke_has_no_hint_that_would_be_wrong():
    """libvirtd was running a moment ago."""
    error = translate(
        foreign(libvirt.VIR_ERR_SYSTEM_ERROR, libvirt.VIR_FROM_RPC, number=errno.ECONNRESET), "x"
    )
    assert (type(error), error.hint) == (ConnectionLost, None)


def test_an_error_without_any_detail_is_still_ours():
    """libvirt's bindings raise such when there is no last error."""
    empty = libvirt.libvirtError("virDomainSuspend() failed")
    empty.err = None
    error = translate(empty, "pausing")
    assert (type(error), error.code) == (HypervisorError, None)
    assert "virDomainSuspend() failed" in str(error)


def test_only_libvirts_errors_are_translated():
    """A bug stays a bug, an error of ours stays as it is; libvirt's is kept as the cause."""
    for other in (ZeroDivisionError(), WrongState("x", operation="y")):
        with pytest.raises(type(other)) as caught, translated("pausing"):
            raise other
        assert caught.value is other
    original = foreign(libvirt.VIR_ERR_NO_DOMAIN)
    with pytest.raises(GuestNotFound) as found, translated("pausing", "web1"):
        raise original
    assert found.value.__cause__ is original


def test_libvirt_prints_nothing_of_its_own(capfd):
    """By default it writes every error to stderr; ours are raised, once."""
    connection = libvirt.open("test:///default")  # lives in this process
    try:
        with pytest.raises(GuestNotFound), translated("looking up", "nobody"):
            connection.lookupByName("nobody")
    finally:
        connection.close()
    assert capfd.readouterr() == ("", "")


# -- facts


def describe(inside: str = "", name: str = "web1", kind: str = "kvm"):
    return facts.guest_info(Domain(f"<domain type='{kind}'>{inside}</domain>", name))


def test_a_guests_description_is_read_as_data():
    """State, size, labels, RTC and interfaces."""
    info = describe("""
        <name>web1</name><vcpu placement='static'>4</vcpu>
        <metadata>
          <maintenance xmlns='urn:harness:maintenance:1' update-domain='7' availability-set='web'/>
        </metadata>
        <clock offset='utc'>
          <timer name='hpet' present='no'/><timer name='rtc' tickpolicy='catchup' track='guest'/>
        </clock>
        <devices>
          <interface type='network'><mac address='52:54:00:AB:CD:EF'/></interface>
          <interface type='bridge'><mac address='52:54:00:00:00:02'/></interface>
          <interface type='hostdev'/>
        </devices>""")
    assert (info.name, info.uuid, str(info.state)) == ("web1", UUID, "paused (user)")
    assert (info.vcpus, info.memory_bytes, info.accelerator) == (4, 128 << 20, "kvm")
    assert (info.update_domain, info.availability_set) == ("7", "web")
    assert info.rtc_track == "guest"
    assert info.macs == ("52:54:00:ab:cd:ef", "52:54:00:00:00:02")


@pytest.mark.parametrize(
    "clock",
    [
        "",
        "<clock offset='utc'/>",
        "<clock offset='utc'><timer name='pit' track='guest'/></clock>",
        "<clock offset='utc'><timer name='rtc' tickpolicy='delay'/></clock>",
        "<clock offset='utc'><timer name='rtc' track='wall'/></clock>",
    ],
)
def test_an_rtc_that_says_nothing_else_follows_the_wall(clock):
    """libvirt's default; another timer's track is not the RTC's."""
    assert describe(clock).rtc_track == "wall"


@pytest.mark.parametrize(
    "metadata",
    [
        "",
        "<metadata/>",
        "<metadata><maintenance update-domain='7'/></metadata>",
        "<metadata><m:maintenance xmlns:m='urn:other' update-domain='7'/></metadata>",
        "<metadata><x xmlns='urn:harness:maintenance:1' update-domain='7'/></metadata>",
    ],
)
def test_labels_of_somebody_else_are_not_ours(metadata):
    """Only our element in our namespace counts."""
    info = describe(metadata)
    assert (info.update_domain, info.availability_set) == (None, None)


@pytest.mark.parametrize(
    ("kind", "word"),
    [("kvm", "kvm"), ("qemu", "tcg"), ("test", "test"), ("xen", "xen")],
)
def test_the_accelerator_is_the_domains_type(kind, word):
    """What we have no word for is passed on."""
    assert describe(kind=kind).accelerator == word


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_name_or_label_is_only_data(name):
    """It comes out as it went in."""
    info = describe(
        f"<metadata><maintenance xmlns='urn:harness:maintenance:1' update-domain={quoteattr(name)}"
        f" availability-set={quoteattr(name)}/></metadata>",
        name=name,
    )
    assert (info.name, info.update_domain, info.availability_set) == (name, name, name)


def test_a_guest_that_vanishes_while_it_is_read_is_not_found():
    """A transient guest that ended; other errors are other errors."""
    gone = Domain("<domain/>", error=foreign(libvirt.VIR_ERR_NO_DOMAIN, libvirt.VIR_FROM_QEMU))
    with pytest.raises(GuestNotFound):
        facts.guest_info(gone)
    broken = Domain("<domain/>", error=foreign(libvirt.VIR_ERR_INTERNAL_ERROR))
    with pytest.raises(HypervisorError) as caught:
        facts.guest_info(broken)
    assert not isinstance(caught.value, GuestNotFound)


def test_the_host_is_described_with_versions_people_know(monkeypatch):
    """libvirt packs versions into one number; a remote host's kernel is not ours."""
    monkeypatch.setattr(socket, "gethostname", lambda: "here")
    capabilities = "<capabilities><host><cpu><model>EPYC</model></cpu></host></capabilities>"
    record = facts.host_record(Connection("here", capabilities), "kvm")
    assert (record.libvirt, record.hypervisor) == ("9.0.5", "QEMU 7.2.17")
    assert (record.hostname, record.cpu, record.accelerator) == ("here", "EPYC", "kvm")
    assert record.kernel == platform.release()
    remote = facts.host_record(Connection("there", "<capabilities/>"), "unknown")
    assert (remote.kernel, remote.cpu) == ("unknown (remote)", "unknown")


# -- processes


def process(proc: Path, pid: int, *arguments: str, comm: str = "qemu", start: int = 777) -> None:
    """A process in a /proc of our own."""
    folder = proc / str(pid)
    folder.mkdir()
    (folder / "cmdline").write_bytes(b"".join(word.encode() + b"\0" for word in arguments))
    fields = " ".join(str(number) for number in range(4, 22))
    (folder / "stat").write_text(f"{pid} ({comm}) S {fields} {start} 23 24\n")


@pytest.mark.parametrize(
    "comm", ["qemu-system-x86", "a b", "a) S 1 2 3", ")", "((", "a\nb) R (c", "1 2 3 4 5"]
)
def test_the_start_time_is_found_whatever_the_process_is_called(tmp_path, comm):
    """A command may hold spaces, parentheses and newlines."""
    process(tmp_path, 42, comm=comm, start=123_456)
    assert start_ticks(42, tmp_path) == 123_456


def test_the_start_time_of_a_process_that_is_gone_is_an_error(tmp_path):
    """Nobody takes it for a process."""
    with pytest.raises(OSError):
        start_ticks(42, tmp_path)


def test_the_start_time_is_the_kernels(tmp_path):
    """On the real /proc it is field 22: our parent was started no later than we were."""
    ours, parents = start_ticks(os.getpid()), start_ticks(os.getppid())
    assert 0 <= parents <= ours
    fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    assert str(ours) == fields[22 - 3]


class Libvirt:
    """A folder of pid files, as libvirt keeps it, beside a /proc of our own."""

    def __init__(self, top: Path) -> None:
        self.proc, self.folder = top / "proc", top / "qemu"
        self.proc.mkdir()
        self.folder.mkdir()

    def qemu(self, pid: int, *arguments: str, exe: str = "/usr/bin/qemu-system-x86_64") -> None:
        process(self.proc, pid, *arguments, start=99)
        (self.proc / str(pid) / "exe").symlink_to(exe)

    def wrote(self, name: str, pid: object) -> None:
        (self.folder / f"{name}.pid").write_text(f"{pid}\n")

    def find(self) -> ProcessIdentity | None:
        return find_process(UUID, self.folder, self.proc)


@pytest.fixture
def pid_files(tmp_path):
    return Libvirt(tmp_path)


def test_a_guest_is_the_process_that_libvirt_wrote_down_and_was_started_with_its_uuid(pid_files):
    """Not one that has the UUID in another place, another's, or none; not one that has ended."""
    pid_files.qemu(10, "qemu", "-name", f"guest={UUID}", "-uuid", UUID.replace("1", "9"))
    pid_files.qemu(12, "kthreadd")
    pid_files.qemu(14, "qemu", "-uuid")
    for pid in (10, 11, 12, 14, "", "x"):
        pid_files.wrote(f"guest-{pid}", pid)
    assert pid_files.find() is None
    pid_files.qemu(15, "qemu", "-name", "guest=a; touch x", "-uuid", UUID, "-S")
    assert pid_files.find() is None, "a process that libvirt knows nothing of"
    pid_files.wrote("a; touch x &lt;", 15)  # as libvirt escapes names in these files
    assert pid_files.find() == ProcessIdentity(15, 99)


def test_a_process_that_took_over_a_guest_is_known_by_its_arguments(pid_files):
    """libvirt restored it from disk; another process of the same pid says nothing."""
    pid_files.qemu(15, "qemu", "-uuid", UUID, "-incoming", "defer")
    pid_files.qemu(16, "qemu", "-uuid", UUID, "-name", "guest=-incoming")
    assert was_restored(ProcessIdentity(15, 99), pid_files.proc)
    assert not was_restored(ProcessIdentity(15, 98), pid_files.proc)
    assert not was_restored(ProcessIdentity(16, 99), pid_files.proc)
    assert not was_restored(ProcessIdentity(17, 99), pid_files.proc)


def test_the_monitor_of_a_qemu_is_the_socket_that_it_listens_at(pid_files):
    """By the kernel's lists; a name of a guest may be in its path."""
    pid_files.qemu(15, "qemu", "-uuid", UUID)
    fds, net = pid_files.proc / "15" / "fd", pid_files.proc / "15" / "net"
    fds.mkdir()
    net.mkdir()
    (fds / "7").symlink_to("socket:[71]")
    (fds / "8").symlink_to("socket:[72]")
    (net / "unix").write_text(
        "Num       RefCount Protocol Flags    Type St Inode Path\n"
        "0000: 00000003 00000000 00000000 0001 03 70\n"
        "0000: 00000002 00000000 00010000 0001 01 69 /run/another/monitor.sock\n"
        "0000: 00000002 00000000 00010000 0001 01 71 /run/a; touch x/agent.sock\n"
        "0000: 00000002 00000000 00010000 0001 01 72 /run/a; touch x/monitor.sock\n"
    )
    assert monitor_of(ProcessIdentity(15, 99), pid_files.proc) == Path(
        "/run/a; touch x/monitor.sock"
    )
    (fds / "8").unlink()
    assert monitor_of(ProcessIdentity(15, 99), pid_files.proc) is None
    assert monitor_of(ProcessIdentity(16, 99), pid_files.proc) is None


def test_what_executes_no_qemu_is_no_guest(pid_files):
    """A pid that was used again, by one that has a UUID among its arguments."""
    pid_files.qemu(15, "sleep", "-uuid", UUID, exe="/usr/bin/sleep")
    pid_files.wrote("a", 15)
    assert pid_files.find() is None


def test_a_qemu_that_was_upgraded_since_is_a_guest(pid_files):
    """Its executable is gone from the disk."""
    pid_files.qemu(15, "qemu", "-uuid", UUID, exe="/usr/bin/qemu-system-x86_64 (deleted)")
    pid_files.wrote("a", 15)
    assert pid_files.find() == ProcessIdentity(15, 99)


@pytest.mark.skipif(os.geteuid() != 0, reason="gives a file away")
def test_another_users_process_is_no_guest(pid_files):
    """Only one of root's (the pid file's), or of the user as whom libvirt runs guests."""
    pid_files.qemu(15, "qemu", "-uuid", UUID)
    pid_files.wrote("a", 15)
    os.chown(pid_files.proc / "15", 12345, -1)
    assert pid_files.find() is None
    (pid_files.folder / "slirp").mkdir()
    os.chown(pid_files.folder / "slirp", 12345, -1)
    assert pid_files.find() == ProcessIdentity(15, 99)


def test_a_process_that_ends_between_two_looks_is_not_there(pid_files):
    """Its command line could still be read, its start time could not."""
    pid_files.qemu(15, "qemu", "-uuid", UUID)
    pid_files.wrote("a", 15)
    (pid_files.proc / "15" / "stat").unlink()
    assert pid_files.find() is None


def test_where_libvirt_runs_nothing_there_is_no_guest(tmp_path):
    """No folder, e.g. with the monolithic daemon of another user."""
    assert find_process(UUID, tmp_path / "missing", tmp_path) is None
    assert state_folder("qemu:///system") == Path("/run/libvirt/qemu")
    assert state_folder("qemu:///session").parts[-3:] == ("libvirt", "qemu", "run")


@pytest.mark.filterwarnings("error::ResourceWarning")
def test_looking_for_a_process_leaves_nothing_open(pid_files, tmp_path):
    """Found early, the rest is let go of at once."""
    for pid in range(1, 9):
        pid_files.qemu(pid, "qemu", "-uuid", UUID)
        pid_files.wrote(str(pid), pid)
    assert pid_files.find() is not None
    gc.collect()
    assert str(tmp_path) not in _open_files()
