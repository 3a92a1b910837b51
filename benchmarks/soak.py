"""Kill maintenances at random instants, again and again, and count the guests left paused.

    make soak N=300 [SEED=7] [MINUTES=40]

Each round starts ``harness run`` on two guests of a lab and kills the run, its guardian, or both,
at a random instant: of its whole life, or, every other time, of its pause window. In half of the
rounds a random one of the faults of :mod:`benchmarks.faults` is laid right before. Then:

- the run alone was killed: the guardian has both guests running before the budget is over;
- the guardian alone was killed: the run has them running by then, and ends with 0 or 3;
- both were killed: ``harness recover`` resumes them. Where a fault has taken the journal no program
  can know whose they are; they are *reported* if ``harness recover`` does not end well and names
  them.

Whatever goes wrong is counted and said, the state folder of that round is kept, and the soak goes
on.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from benchmarks.faults import FAULTS, Place
from harness.core.errors import HarnessError
from harness.core.process_state import python_module
from harness.core.timebase import NS_PER_S, SYSTEM_CLOCK, Deadline, NotYet, Stopwatch, wait_for
from harness.host.driver import LibvirtHypervisor
from harness.host.lifecycle import GuestState
from harness.host.protocol import EventKind
from harness.lab import guests as labs
from harness.lab.specs import GuestSpec

GUESTS = ("soak-1", "soak-2")
BUDGET_S = 8.0
UPDATE_S = 0.7
RUN = ("run", "--duration", f"{UPDATE_S:g}", "--budget", f"{BUDGET_S:g}", "--scope", "host")
#: Of five rounds the run alone is killed in three, its guardian in one, both in one.
VICTIMS = ("run", "run", "run", "guardian", "both")
FAULT_ONE_IN = 2
WINDOW_ONE_IN = 2
#: After the budget; for a machine that others use.
_SLACK_S = 2.0
#: A run whose guardian died mends clocks before it ends.
_END_S = 90.0
_COMMAND_S = 180.0
#: A soak that cannot do a single round any more has nothing to tell.
_ERRORS_IN_A_ROW = 5
#: Guests that have only just booted on a busy machine may not be reached at once.
_TRIES = 3


@dataclass
class Tally:
    """What a soak has seen."""

    kills: Counter[str] = field(default_factory=Counter)
    """By victim."""
    while_paused: int = 0
    ended_before: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    late: int = 0
    """Guests that run or guardian had not resumed 2 s after the budget."""
    reported: int = 0
    """Guests paused in the end, and named by recover or by the run."""
    unreported: int = 0
    """Guests paused in the end, and nothing said so."""
    recoveries: int = 0
    failed_recoveries: int = 0
    bad_ends: int = 0
    """Runs whose guardian was killed and that ended otherwise than with 0 or 3."""
    errors: int = 0
    """Rounds that the soak itself could not do to the end."""
    guardians_left: int = 0
    worst_pause_s: float = 0.0
    """Of the kills of the run alone; by libvirt's events."""
    worst_rescue_s: float = 0.0
    """From the kill of a run alone to the moment when both guests run."""
    findings: list[str] = field(default_factory=list)

    @property
    def is_clean(self) -> bool:
        """Nothing is wrong. A guest that was reported is not: no program can know whose it is."""
        wrong = (self.late, self.unreported, self.failed_recoveries, self.bad_ends)
        return not any((*wrong, self.errors, self.guardians_left))

    def rows(self) -> list[tuple[str, str]]:
        """For the table."""
        return [
            ("kills", str(self.kills.total())),
            *((f"    of {victim}", str(times)) for victim, times in sorted(self.kills.items())),
            ("… while guests were paused", str(self.while_paused)),
            ("… after a fault was laid", str(self.faults.total())),
            *((f"    {fault}", str(times)) for fault, times in sorted(self.faults.items())),
            ("runs that had ended before", str(self.ended_before)),
            ("guests stranded, and nothing said so", str(self.unreported)),
            ("guests paused in the end, and reported", str(self.reported)),
            ("guests resumed later than budget + 2 s", str(self.late)),
            ("recoveries", str(self.recoveries)),
            ("recoveries that failed", str(self.failed_recoveries)),
            ("runs without a guardian that ended badly", str(self.bad_ends)),
            ("guardians that did not end", str(self.guardians_left)),
            ("rounds that could not be done", str(self.errors)),
            ("worst pause, killed run", f"{self.worst_pause_s:.3f} s"),
            ("worst kill → both running", f"{self.worst_rescue_s:.3f} s"),
        ]


@dataclass(frozen=True)
class Round:
    """What one round does, as drawn beforehand."""

    number: int
    victim: str
    fault: str | None
    in_window: bool
    instant: float
    """As a share of the run's life, or of its window."""

    def __str__(self) -> str:
        """For people."""
        where = "of the window" if self.in_window else "of its life"
        return f"round {self.number}: {self.victim} at {self.instant:.0%} {where}, {self.fault}"


class Soak:
    """Rounds on one lab; ``seed`` makes what is drawn repeatable."""

    def __init__(
        self,
        hypervisor: LibvirtHypervisor,
        uuids: dict[str, str],
        config: Path,
        folder: Path,
        seed: int,
        say: Callable[[str], None],
    ) -> None:
        self.tally = Tally()
        self._hypervisor = hypervisor
        self._uuids = uuids
        self._run = (*RUN, *uuids, "-c", str(config))
        self._folder = folder
        self._state_dir = folder / "undisturbed"
        self._kept = Path(tempfile.gettempdir()) / f"harness-soak-{seed}"
        self._random = random.Random(seed)
        self._life_s = 3.0
        self._say = say
        self._number = 0
        self._round = self._draw()

    def measure_life(self) -> None:
        """How long an undisturbed run takes: the instants are spread over that."""
        for _ in range(_TRIES):
            watch = Stopwatch()
            done = _harness(self._state_dir, *self._run)
            if done.returncode == 0:
                self._life_s = watch.elapsed_s()
                return
            self._say(f"an undisturbed run ended with {done.returncode}: {done.stderr}")
        raise SystemExit("no run ends well here, so no soak can tell anything")

    def go_on(self, kills: int, until: Deadline) -> None:
        """Do rounds until so many kills are done, or the time is up."""
        in_a_row = 0
        while self.tally.kills.total() < kills and not until.expired:
            self._round = self._draw()
            try:
                self._do(self._round)
                in_a_row = 0
            except (HarnessError, OSError, ValueError, subprocess.SubprocessError) as error:
                in_a_row += 1
                self.tally.errors += 1
                self._find(f"could not be done: {type(error).__name__}: {error}")
                self._resume_all()
                if in_a_row == _ERRORS_IN_A_ROW:
                    self._say("the soak ends: nothing can be done any more")
                    return
            if self._number % 20 == 0:
                self._say(f"{self.tally}")

    def _draw(self) -> Round:
        self._number += 1
        draw = self._random
        fault = draw.choice(list(FAULTS)) if draw.randrange(FAULT_ONE_IN) else None
        in_window = draw.randrange(WINDOW_ONE_IN) == 0
        return Round(self._number, draw.choice(VICTIMS), fault, in_window, draw.uniform(0, 1))

    def _do(self, drawn: Round) -> None:
        """One run and its end; its state folder is its own."""
        began_ns = SYSTEM_CLOCK.monotonic_ns()
        self._state_dir = self._folder / f"state-{drawn.number}"
        laid: str | None = None
        guardian: int | None = None
        with ExitStack() as faults, self._started() as run:
            self._wait_for_the_instant(run, drawn)
            if run.poll() is not None:
                self.tally.ended_before += 1
                self._life_s *= 0.95
                return
            guardian = _guardian_of(run.pid)
            if drawn.fault and guardian is not None:
                laid = self._lay(drawn.fault, guardian, faults)
            watch = self._kill(drawn.victim, run, guardian)
            self.tally.while_paused += bool(self._paused())
            if drawn.victim == "run" or guardian is None:
                if self._run_again(BUDGET_S + _SLACK_S) and drawn.victim == "run":
                    self.tally.worst_rescue_s = max(self.tally.worst_rescue_s, watch.elapsed_s())
                    pause_s = self._pause_s(began_ns)
                    self.tally.worst_pause_s = max(self.tally.worst_pause_s, pause_s)
            elif drawn.victim == "guardian":
                self._run_again(BUDGET_S + _SLACK_S)
                self._expect_a_good_end(run)
        if guardian is not None:
            self._expect_gone(guardian)
        self._expect_nobody_paused(self._recover(laid is not None))
        shutil.rmtree(self._state_dir, ignore_errors=True)

    @contextmanager
    def _started(self) -> Iterator[subprocess.Popen[bytes]]:
        log = self._folder / "run.log"
        with open(log, "wb") as output:
            run = subprocess.Popen(
                python_module("harness", *self._run),
                env=_environment(self._state_dir),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        try:
            yield run
        finally:
            if run.poll() is None:
                run.kill()
            run.wait()

    def _wait_for_the_instant(self, run: subprocess.Popen[bytes], drawn: Round) -> None:
        if not drawn.in_window:
            SYSTEM_CLOCK.sleep(0.2 + drawn.instant * self._life_s)
            return

        def armed() -> None:
            journals = self._state_dir.glob("runs/*/journal.jsonl")
            if run.poll() is None and not any(b'"armed"' in one.read_bytes() for one in journals):
                raise NotYet("not armed")

        wait_for(armed, what="the window", deadline=Deadline.after(_END_S), interval_s=0.002)
        SYSTEM_CLOCK.sleep(drawn.instant * UPDATE_S)

    def _kill(self, victim: str, run: subprocess.Popen[bytes], guardian: int | None) -> Stopwatch:
        """Neither gets to do anything about the other's death where both are killed."""
        if victim == "both" and guardian is not None:
            run.send_signal(signal.SIGSTOP)
        if victim != "run" and guardian is not None:
            with suppress(ProcessLookupError):
                os.kill(guardian, signal.SIGKILL)
        if victim != "guardian" or guardian is None:
            run.kill()
        self.tally.kills[victim if guardian is not None else "run before it had a guardian"] += 1
        return Stopwatch()

    def _lay(self, fault: str, guardian: int, laid: ExitStack) -> str | None:
        """Lay ``fault`` if the run has got that far; return its name if it has."""
        folders = sorted((self._state_dir / "runs").glob("*/"))
        if not folders:
            return None
        with suppress(OSError):  # it has ended, or is just about to
            laid.enter_context(FAULTS[fault](Place(self._state_dir, folders[-1], guardian)))
            self.tally.faults[fault] += 1
            return fault
        return None

    def _paused(self) -> list[str]:
        deadline = Deadline.after(10)
        states = {n: self._hypervisor.state(u, deadline).state for n, u in self._uuids.items()}
        return [name for name, state in states.items() if state is GuestState.PAUSED]

    def _run_again(self, within_s: float) -> bool:
        """Return True if both guests run in time; count those that do not."""

        def look() -> None:
            if names := self._paused():
                raise NotYet(f"paused: {names}")

        try:
            wait_for(look, what="running", deadline=Deadline.after(within_s), interval_s=0.005)
        except HarnessError:
            names = self._paused()
            self.tally.late += len(names)
            self._find(f"late: {names}")
            return not names
        return True

    def _expect_a_good_end(self, run: subprocess.Popen[bytes]) -> None:
        try:
            code = run.wait(_END_S)
        except subprocess.TimeoutExpired:
            code = None
        if code not in (0, 3):
            self.tally.bad_ends += 1
            said = (self._folder / "run.log").read_text(errors="replace").splitlines()[-1:]
            self._find(f"without its guardian the run ended with {code}: {said}")

    def _expect_gone(self, guardian: int) -> None:
        """A guardian that has rescued, or is not needed, ends."""

        def look() -> None:
            if b"pause.guardian" in _command_line(guardian):
                raise NotYet("it lives")

        try:
            wait_for(look, what="the guardian's end", deadline=Deadline.after(30))
        except HarnessError:
            self.tally.guardians_left += 1
            self._find("the guardian did not end")
            os.kill(guardian, signal.SIGKILL)

    def _expect_nobody_paused(self, said: str) -> None:
        """Count who is paused when everything was done; ``said`` by recover, and by the run."""
        for name in self._paused():
            if name in said:
                self.tally.reported += 1
            else:
                self.tally.unreported += 1
                self._find(f"{name} is paused in the end, and nothing said so: {said!r}")
        self._resume_all()

    def _resume_all(self) -> None:
        with suppress(HarnessError):
            for name in self._paused():
                self._hypervisor.resume(self._uuids[name], Deadline.after(10))

    def _recover(self, faulty: bool) -> str:
        """Finish what was left; return what was said if it was not all right.

        Where a fault was laid, a run that cannot be finished is named: exit 3 or 4.
        """
        done = _harness(self._state_dir, "recover", "--json")
        runs = json.loads(done.stdout or '{"runs": []}')["runs"]
        self.tally.recoveries += sum(bool(run["guests"]) for run in runs)
        if done.returncode not in ((0, 3, 4) if faulty else (0,)):
            self.tally.failed_recoveries += 1
            self._find(f"recover ended with {done.returncode}: {done.stderr.splitlines()[-2:]}")
        return done.stderr if done.returncode else ""

    def _find(self, what: str) -> None:
        """Say what is wrong, and keep the state folder of this round."""
        found = f"{self._round}: {what}"
        self.tally.findings.append(found)
        self._say(found)
        kept = self._kept / f"round-{self._number}"
        with suppress(OSError, shutil.Error):
            if not kept.exists():
                shutil.copytree(self._state_dir, kept, symlinks=True)
                shutil.copy(self._folder / "run.log", kept)

    def _pause_s(self, since_ns: int) -> float:
        worst_ns = 0
        for uuid in self._uuids.values():
            events = [e for e in self._hypervisor.events(uuid) if e.at_ns >= since_ns]
            began = [e.at_ns for e in events if e.kind is EventKind.SUSPENDED]
            ended = [e.at_ns for e in events if e.kind is EventKind.RESUMED]
            if began and ended:
                worst_ns = max(worst_ns, ended[-1] - began[0])
        return worst_ns / NS_PER_S


def _environment(state_dir: Path) -> dict[str, str]:
    """Pages are made when guests are well again, and take longer than all that is killed here."""
    locks = state_dir.with_name(f"{state_dir.name}-locks")  # no round finds another one's runs
    locks.mkdir(exist_ok=True)
    return {
        **os.environ,
        "HARNESS_NO_REPORT": "1",
        "HARNESS_STATE_DIR": str(state_dir),
        "HARNESS_LOCK_DIR": str(locks),
    }


def _harness(state_dir: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        python_module("harness", *arguments),
        capture_output=True,
        text=True,
        timeout=_COMMAND_S,
        env=_environment(state_dir),
    )


def _command_line(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def _guardian_of(parent: int) -> int | None:
    with suppress(OSError):
        for pid in Path(f"/proc/{parent}/task/{parent}/children").read_text().split():
            if b"harness.maintenance.pause.guardian" in _command_line(int(pid)):
                return int(pid)
    return None


def soak(
    kills: int, seed: int, say: Callable[[str], None] = print, minutes: float = 24 * 60.0
) -> Tally:
    """Boot a lab in a state folder of its own, kill so many runs, take it down."""
    with tempfile.TemporaryDirectory(prefix="harness-soak-") as folder:
        before = os.environ.get("HARNESS_STATE_DIR")
        os.environ["HARNESS_STATE_DIR"] = f"{folder}/lab"
        try:
            specs = [GuestSpec(name, "tiny", update_domain="0") for name in GUESTS]
            lab = labs.up(specs, deadline=Deadline.after(180), progress=say)
            try:
                hypervisor = LibvirtHypervisor.open(lab.uri, Deadline.after(10))
                uuids = {guest.name: guest.uuid for guest in lab.guests}
                found = Soak(hypervisor, uuids, lab.config_file, Path(folder), seed, say)
                found.measure_life()
                with suppress(KeyboardInterrupt):  # what was seen so far is told
                    found.go_on(kills, Deadline.after(minutes * 60))
                hypervisor.close()
            finally:
                labs.down(say)
        finally:
            if before is None:
                del os.environ["HARNESS_STATE_DIR"]
            else:
                os.environ["HARNESS_STATE_DIR"] = before
    return found.tally


@click.command()
@click.argument("kills", type=click.IntRange(min=1), default=20)
@click.option("--seed", type=int, help="What is drawn; default: another one each time.")
@click.option("--minutes", type=float, default=24 * 60.0, help="End after so long at the latest.")
def main(kills: int, seed: int | None, minutes: float) -> None:
    """Kill KILLS maintenances; exit 1 if a guest was stranded, late, or a recovery failed."""
    seed = random.randrange(1 << 30) if seed is None else seed
    tally = soak(kills, seed, minutes=minutes)
    table = Table(title=f"{tally.kills.total()} kills at random instants (seed {seed})")
    table.add_column("")
    table.add_column("", justify="right")
    for row in tally.rows():
        table.add_row(*row)
    Console().print(table)
    for finding in tally.findings:
        click.echo(finding)
    sys.exit(0 if tally.is_clean else 1)


if __name__ == "__main__":
    main()
