"""The shell of a guest in memory: the commands and programs that a maintenance runs in it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator

from harness.checks.probes.canary import pattern, shell_pattern
from harness.checks.probes.programs import sh_program
from harness.clock.agents import agent
from harness.core.errors import ProbeError, ShellUnreachable
from harness.core.timebase import NS_PER_S, Deadline
from harness.guest.facts import COLLECT
from harness.guest.framing import NeverBegan
from harness.guest.in_python import program
from harness.guest.protocol import Completed, Language, Way
from harness.testing.guest import FakeGuest
from harness.testing.windows import PRIVILEGE_NOT_HELD, Windows

_DISK_BLOCK_S = 0.02
_LIFE = """=== uptime
{uptime_s:.2f} 0.00
=== stat
1 (init) S 0{zeros} 5 0
=== mounts
/dev/vda1 / ext4 rw,relatime 0 0
=== tcp
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid
   0: 0200000A:0016 0100000A:9C40 01 00000000:00000000 02:00000000 00000000     0
=== snmp
Tcp: RtoAlgorithm EstabResets
Tcp: 1 0
"""
_Answer = Callable[[str], str]


class InMemoryShell:
    """A GuestShell of a :class:`FakeGuest`; it runs only what harness runs in guests."""

    def __init__(self, guest: FakeGuest, address: str | None = None) -> None:
        self.guest = guest.name
        self.speaks = Language.SH
        self.way = Way(
            address or guest.address, host_key=guest.host_key, doubt=guest.host_key_doubt
        )
        self._guest = guest
        self.closed = False

    def run(self, command: str, deadline: Deadline, *, check: bool = True) -> Completed:
        """Run one of the known commands; any other ends with status 127."""
        self._expect_open()
        self._guest.asked.append(command)
        with self._guest.answering("running a command", deadline):
            done = self._answer_there(self._guest.windows, command)
        if check:
            done.expect_success(self.guest)
        return done

    def _answer_there(self, windows: Windows | None, command: str) -> Completed:
        if windows is None:
            return self.answer(command)
        if self.speaks is Language.SH:
            self.speaks = Language.POWERSHELL
            raise NeverBegan("its login shell runs no sh", guest=self.guest)
        return windows.completed(command)

    def answer(self, command: str) -> Completed:
        """Return how one of the known commands ends."""
        guest = self._guest
        if guest.no_linux:
            return Completed(127, "", "not found")
        if "say boot_id" in command:
            return Completed(0, _facts(guest), "")
        if "/dev/kmsg" in command:
            guest.kernel_log.append(command.partition("echo ")[2].partition(">")[0].strip(" '\"\\"))
            return Completed(0, "", "")
        if guest.kernel_log_denied:
            said = f"{guest.boot_id}\n" if "boot_id" in command else ""
            return Completed(1, said, "dmesg: read kernel buffer failed: Operation not permitted")
        log = "\n".join(guest.kernel_log) + "\n"
        if "boot_id" in command:
            return Completed(0, f"{guest.boot_id}\n{log}", "")
        if "dmesg" in command:
            return Completed(0, log, "")
        if command.startswith("chronyc") and guest.time_daemon == "chronyd":
            refused = Completed(1, "501 Not authorised\n", "")
            return refused if guest.chronyc_refuses else Completed(0, "200 OK\n", "")
        return Completed(127, "", "not found")

    def stream(self, command: str, deadline: Deadline) -> InMemoryStream:
        """Start a clock agent, a probe's program or ``cat``."""
        self._expect_open()
        guest = self._guest
        guest.asked.append(command)
        with guest.answering("starting a program", deadline):
            if COLLECT in command:
                return self._enter(command)
            for interpreter in guest.interpreters:
                for sudo in (False, True):
                    if command == agent(interpreter, sudo=sudo).command:
                        return InMemoryStream(guest, ClockAgent(guest, sudo=sudo).answer)
            if command == "exec cat":
                return InMemoryStream(guest, lambda line: line)
            if command == sh_program() or "python3" in command:
                program = ProbeProgram(guest, in_sh=command == sh_program())
                return InMemoryStream(guest, program.answer, "ready")
        return InMemoryStream(guest, None)

    def _enter(self, command: str) -> InMemoryStream:
        """The first channel (:mod:`harness.clock.one_channel`)."""
        guest = self._guest
        if guest.windows is not None:
            self.speaks = Language.POWERSHELL
            raise NeverBegan("its login shell runs no sh", guest=guest.name)
        known = [one for one in guest.interpreters if _turns_into(one, command)]
        if guest.no_linux or not known:
            return InMemoryStream(guest, None)
        if known[0] == "python3":
            return InMemoryStream(guest, PythonAgent(guest).answer, "python3")
        told = [*_facts(guest).splitlines(), ".", known[0]]
        started = ShAgent(guest, self) if known[0] == "sh" else ClockAgent(guest)
        return InMemoryStream(guest, started.answer, *told)

    def close(self) -> None:
        """Answer no more."""
        self.closed = True

    def _expect_open(self) -> None:
        if self.closed:
            raise ShellUnreachable("the connection was closed", guest=self.guest)


def _turns_into(interpreter: str, command: str) -> bool:
    program = agent(interpreter)
    return (program.text if interpreter == "sh" else program.command) in command


class InMemoryStream:
    """A LineStream to a program of a :class:`FakeGuest`; ``answer`` None: it has ended."""

    def __init__(self, guest: FakeGuest, answer: _Answer | None, *greeting: str) -> None:
        self._guest = guest
        self._answer = answer
        self._said = list(greeting)

    def ask(self, line: str, deadline: Deadline) -> tuple[int, str, int]:
        """Answer when the guest runs; stamped as a real exchange is."""
        self._guest.asked.append(line)
        sent_ns = self._guest.clock.monotonic_ns()
        with self._guest.answering("asking the remote loop", deadline):
            if self._answer is None:
                raise ProbeError("the remote loop ended: not found", guest=self._guest.name)
            self._guest.clock.sleep(self._guest.way_s)
            answer, *more = self._answer(line).split("\n")
            self._said += more
            self._guest.clock.sleep(self._guest.way_s)
        return sent_ns, answer, self._guest.clock.monotonic_ns()

    def listen(self, deadline: Deadline) -> tuple[str, int]:
        """The greeting of a program that has one; what else it answers than a line."""
        with self._guest.answering("listening to the remote loop", deadline):
            if not self._said:
                raise ProbeError("the remote loop ended", guest=self._guest.name)
            return self._said.pop(0), self._guest.clock.monotonic_ns()

    def said(self) -> bytes:
        """Return what it has said unasked, once."""
        lines, self._said = self._said, []
        return "".join(f"{line}\n" for line in lines).encode()

    def close(self) -> None:
        """End the program."""
        self._answer = None


class ClockAgent:
    """The clock agent's protocol (:mod:`harness.clock.agents`)."""

    def __init__(self, guest: FakeGuest, *, sudo: bool = False) -> None:
        self._guest = guest
        self._is_root = sudo or guest.uid == 0

    def answer(self, line: str) -> str:
        """One answer, numbered as its question."""
        what, number, *values = line.split(" ")
        guest, said = self._guest, "ok"
        if what == "h":
            said = f"hello {guest.abilities}"
        elif what == "r":
            now_ns, monotonic_ns = guest.realtime_ns(), guest.monotonic_ns()
            said = f"{now_ns} {now_ns + 1} {monotonic_ns} {monotonic_ns}"
            said = "what?" if guest.agent_nonsense else said
        elif what == "c":
            said = str(guest.realtime_ns() // NS_PER_S)
        elif what == "w":
            said = "3 0 0 0 0 0 50000000"
        elif what == "u":
            said = (guest.machine_uuid if self._is_root else None) or "none"
        elif not self._is_root:
            said = "1" if guest.windows is None else PRIVILEGE_NOT_HELD
        elif what == "a":
            said = "ok"
        elif guest.step_refusal is not None:
            said = guest.step_refusal
        elif what == "f":
            said = self._foreseen(*(int(value) for value in values))
        else:
            self._set(what, [int(value) for value in values])
        return f"{number} {said}"

    def _foreseen(self, by_ns: int, earliest_ns: int, latest_ns: int) -> str:
        guest = self._guest
        now_ns, monotonic_ns = guest.realtime_ns(), guest.monotonic_ns()
        if not earliest_ns <= now_ns <= latest_ns:
            return f"{now_ns} {now_ns + 1} {monotonic_ns} {monotonic_ns}"
        guest.step(by_ns)
        stamps = (now_ns, guest.realtime_ns(), guest.realtime_ns() + 1, monotonic_ns, monotonic_ns)
        return f"stepped {' '.join(map(str, stamps))}"

    def _set(self, what: str, values: list[int]) -> None:
        guest = self._guest
        if what == "s":
            guest.step(values[0])
        elif what == "t":
            guest.clock.sleep(values[1] / NS_PER_S)
            guest.step(values[0] * values[1] // 1_000_000)
        elif what == "p":
            guest.offset_s = values[0] / NS_PER_S
        elif what == "d":
            guest.offset_s = (values[0] * NS_PER_S - guest.clock.realtime_ns()) / NS_PER_S


class PythonAgent(ClockAgent):
    """One that runs programs as well (:mod:`harness.clock.programs`)."""

    def __init__(self, guest: FakeGuest) -> None:
        super().__init__(guest)
        self._child = ProbeProgram(guest)

    def answer(self, line: str) -> str:
        """One answer, numbered as its question."""
        what, number, *values = line.split(" ", 2)
        if what == "h":
            return f"{super().answer(line)} programs"
        if what == "b":
            self._child = ProbeProgram(self._guest)
            return f"{number} ready"
        if what == "y":
            return f"{number} {self._child.answer(values[0])}"
        if what == "e":
            said = _evaluated(self._guest, bytes.fromhex(values[0]).decode())
            return f"{number} {said.encode().hex() or '-'}"
        return super().answer(line)


class ShAgent(ClockAgent):
    """One that looks around as well (:mod:`harness.guest.in_sh`)."""

    def __init__(self, guest: FakeGuest, shell: InMemoryShell) -> None:
        super().__init__(guest)
        self._shell = shell
        self._watching = ProbeProgram(guest, in_sh=True)

    def answer(self, line: str) -> str:
        """One answer, numbered as its question."""
        what, number, *values = line.split(" ", 3)
        if what == "h":
            return f"{super().answer(line)} looks"
        if what != "l":
            return super().answer(line)
        end, question = values
        said, status = self._seen(question)
        return f"{number} lines\n{said}{end} {status}"

    def _seen(self, question: str) -> tuple[str, int]:
        what, _, rest = question.partition(" ")
        if what in ("mark", "log"):
            known = {"mark": f"echo '{rest}' >/dev/kmsg", "log": "boot_id; dmesg"}
            done = self._shell.answer(known[what])
            return done.stdout, done.returncode
        return self._watching.answer(question).removesuffix("."), 0


class ProbeProgram:
    """The program that watches from inside (:mod:`harness.checks.probes.programs`)."""

    def __init__(self, guest: FakeGuest, *, in_sh: bool = False) -> None:
        self._guest = guest
        self._in_sh = in_sh
        self._canary = ""
        self._disk_ns = self._timers_ns = guest.monotonic_ns()

    def answer(self, line: str) -> str:
        """What the guest's program would say; ``error …`` for what this one cannot do."""
        what, *words = line.split()
        if what == "fill":
            key = words[0]
            held = shell_pattern(key) if self._in_sh else pattern(bytes.fromhex(key), int(words[1]))
            self._canary = hashlib.sha256(held).hexdigest()
        known: dict[str, Callable[[], str]] = {
            "fill": lambda: "ok",
            "digest": lambda: self._canary,
            "life": lambda: _life(self._guest).encode().hex(),
            "timers-start": lambda: "ok",
            "timers-mark": lambda: "ok",
            "timers-read": lambda: f"{self._since(self._timers_ns, 0.25) + 1} 1000000 1 1",
            "units-ask": lambda: "none",
            "units": lambda: "none",
            "disk-start": lambda: "ok",
            "disk-count": lambda: str(self._since(self._disk_ns, _DISK_BLOCK_S)),
            "disk-wait": lambda: self._wait_for_disk(int(words[0])),
            "disk-stop": lambda: f"{self._since(self._disk_ns, _DISK_BLOCK_S)} 0 0 1000000 -",
        }
        if self._in_sh:
            known["life"] = lambda: "\n".join(_in_files(_life(self._guest)))
            return f"{known[what]()}\n."
        return known.get(what, lambda: f"error: no {what} in memory")()

    def _since(self, start_ns: int, each_s: float) -> int:
        return int((self._guest.monotonic_ns() - start_ns) / NS_PER_S / each_s)

    def _wait_for_disk(self, wanted: int) -> str:
        missing = wanted - self._since(self._disk_ns, _DISK_BLOCK_S)
        self._guest.clock.sleep(max(0, missing) * _DISK_BLOCK_S)
        return str(self._since(self._disk_ns, _DISK_BLOCK_S))


def _evaluated(guest: FakeGuest, source: str) -> str:
    """What a program of :mod:`harness.guest.in_python` leaves in ``said``."""
    if source == program("facts"):
        return _facts(guest)
    given: dict[str, str | None] = {}
    exec(source.split("#")[0], given)
    to_mark, marker = given["to_mark"], given["marker"]
    denied = guest.kernel_log_denied
    if to_mark is not None:
        if guest.uid == 0:
            guest.kernel_log.append(to_mark)
            return to_mark
        return "" if denied else guest.kernel_log[-1]
    if denied:
        return f"{guest.boot_id}\ndenied"
    at = [number for number, one in enumerate(guest.kernel_log) if marker and marker in one]
    after = guest.kernel_log[at[-1] + 1 :] if at else guest.kernel_log
    return "\n".join((guest.boot_id, "marked" if at else "gap", *after))


def _facts(guest: FakeGuest) -> str:
    lines = [f"boot_id={guest.boot_id}", "kernel=6.1.0", "clocksource=tsc", f"uid={guest.uid}"]
    lines += [f"has={name}" for name in guest.interpreters]
    if guest.sees_processes:
        lines += [f"runs={name}" for name in ("init", guest.time_daemon) if name]
    else:
        lines.append("sees=own")
    lines += [f"mac={mac}" for mac in guest.device_macs]
    if guest.uid == 0 and guest.machine_uuid is not None:
        lines.append(f"machine={guest.machine_uuid}")
    return "\n".join(lines) + "\n"


def _life(guest: FakeGuest) -> str:
    told = _LIFE if guest.sees_processes else _LIFE.replace("\n1 (init)", "\n77 (sh)")
    return told.format(uptime_s=guest.monotonic_ns() / NS_PER_S, zeros=" 0" * 17)


_FILES = {"uptime": "uptime", "stat": "1/stat", "mounts": "mounts", "tcp": "net/tcp"}


def _in_files(life: str) -> Iterator[str]:
    """As the program for a guest without python3 tells it."""
    file = ""
    for line in life.splitlines():
        if line.startswith("=== "):
            file = "/proc/" + _FILES.get(line[4:], "net/snmp")
        else:
            yield f"{file}:{line}"
