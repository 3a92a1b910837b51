"""What telling guests costs: answers under load, and how soon an approval becomes a pause.

    make bench-events [GUESTS=10000]

With ``GUESTS``, the load alone, with so many guests enrolled.

Load comes from Debian's ``hey`` on loopback, for some seconds, at the rate of 1,000 guests that
poll once a second; it has one address, so it is one guest of those that are enrolled. Then all that
are enrolled poll, 1,000 of them a second, each from its own address and by a new connection.
Approvals are measured on a real guest, by the store, the run's journal and libvirt's events.
"""

from __future__ import annotations

import csv
import http.client
import io
import os
import re
import signal
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.memory import most_memory_mib
from benchmarks.polls import poll
from harness.core.timebase import (
    NS_PER_S,
    SYSTEM_CLOCK,
    Deadline,
    NotYet,
    Stopwatch,
    boot_ahead_ns,
    wait_for,
)
from harness.events.document import Event, EventType, State
from harness.events.store import Store
from harness.host.driver import LibvirtHypervisor
from harness.host.protocol import EventKind
from harness.lab import guests as labs
from harness.lab.specs import GuestSpec
from harness.results.journal import read

GUESTS = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
#: Polls a second.
RATE = 1000
SECONDS = 20
#: hey keeps this many connections; as many as one guest may have.
CONNECTIONS = 16
RUNS = 5
#: Others use this machine, too; what is measured is this server, not they. Niceness is among the
#: processes of one session; the session's own, which Linux keeps beside it, is set in ``main``.
NICE = ("nice", "-n", "-10")
PATH = "/metadata/scheduledevents?api-version=2020-07-01"
HEADERS = {"Metadata": "true"}


def addresses() -> list[str]:
    """Each guest's."""
    return [f"127.0.{n // 250}.{n % 250 + 1}" for n in range(GUESTS)]


@contextmanager
def server(folder: Path, rate: int, cpu: str) -> Iterator[tuple[int, int]]:
    """Pid and port of a server for GUESTS guests, bound to one core."""
    who = [w for n, a in enumerate(addresses()) for w in ("--identify", f"{a}=g{n}@web/{n % 5}")]
    command = [sys.executable, "-P", "-m", "harness", "events", "serve", "--address", "127.0.0.1"]
    command += ["--anywhere", "--port", "0", "--rate", str(rate), *who]
    with subprocess.Popen(
        [
            *NICE,
            "taskset",
            "-c",
            cpu,
            *command,
        ],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "HARNESS_STATE_DIR": str(folder)},
    ) as process:
        assert process.stderr is not None
        line = next(line for line in process.stderr if "answering guests" in line)
        try:
            yield process.pid, int(line.rpartition(":")[2])
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(20)


def load(port: int, cpu: str, rate: int = RATE) -> list[tuple[float, int]]:
    """(seconds, status) of every request of some seconds of load; rate 0: as fast as it goes."""
    limit = ["-q", str(rate / CONNECTIONS)] if rate else []
    done = subprocess.run(
        [*NICE, "taskset", "-c", cpu, "hey", "-z", f"{SECONDS}s", "-c", str(CONNECTIONS), *limit]
        + ["-o", "csv", "-H", "Metadata: true", f"http://127.0.0.1:{port}{PATH}"],
        capture_output=True,
        text=True,
        check=True,
        timeout=SECONDS + 60,
    )
    rows = csv.DictReader(io.StringIO(done.stdout))
    return [(float(row["response-time"]), int(row["status-code"])) for row in rows]


def percentile(values: Sequence[float], percent: float) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * percent / 100))]


def publish(folder: Path) -> None:
    """An event that every guest of the set sees."""
    with Store(folder) as store:
        names = tuple(f"g{n}" for n in range(0, GUESTS, 5))
        event = Event("", EventType.FREEZE, names, State.PLANNED, 0, "Maintenance.")
        ticks = Path(f"/proc/{os.getpid()}/stat").read_text().rpartition(")")[2].split()[19]
        owner = f"process {os.getpid()} {ticks} benchmark"
        ids = [store.plan("set:web", "0", event, owner=owner)]
        store.announce(ids, SYSTEM_CLOCK.realtime_ns() // NS_PER_S * NS_PER_S + 900 * NS_PER_S)


def cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def neighbour(port: int, seconds: float) -> list[float]:
    """How long another guest waits for each of its polls, four a second."""
    found = []
    until = Deadline.after(seconds)
    while not until.expired:
        watch = Stopwatch()
        connection = http.client.HTTPConnection(
            "127.0.0.1", port, timeout=20, source_address=("127.0.1.7", 0)
        )
        connection.request("GET", PATH, headers=HEADERS)
        assert connection.getresponse().status == 200
        connection.close()
        found.append(watch.elapsed_s())
        SYSTEM_CLOCK.sleep(0.25)
    return found


def under_load(table: Table) -> None:
    with tempfile.TemporaryDirectory() as folder, server(Path(folder), 0, "0") as (pid, port):
        publish(Path(folder))
        before_s = cpu_s(pid)
        answers = load(port, "1")
        used_s = cpu_s(pid) - before_s
        mib = most_memory_mib(pid)
    times = [seconds for seconds, _ in answers]
    good = sum(status == 200 for _, status in answers)
    table.add_row("requests a second, all answered 200", f"{good / SECONDS:.0f}", f"{RATE}")
    assert good == len(answers)
    for percent, limit in ((50, ""), (99, "≤ 20 ms")):
        table.add_row(f"answer, p{percent}", f"{percentile(times, percent) * 1e3:.2f} ms", limit)
    table.add_row("server's CPU for an answer", f"{used_s / len(answers) * 1e6:.0f} µs", "")
    table.add_row("server's memory, most", f"{mib:.0f} MiB", "≤ 120 MiB")


def from_everywhere(table: Table) -> None:
    with tempfile.TemporaryDirectory() as folder, server(Path(folder), 5, "0") as (pid, port):
        publish(Path(folder))
        os.sched_setaffinity(0, {1})
        before_s = cpu_s(pid)
        polled = poll(port, addresses(), PATH, rate=RATE, seconds=SECONDS)
        used_s = cpu_s(pid) - before_s
        mib = most_memory_mib(pid)
    os.sched_setaffinity(0, {0, 1})
    answered = len(polled.times_s)
    said = f"{answered} of {answered + polled.refused}"
    table.add_row("polls from all addresses, a connection each", said, "all")
    for percent, limit in ((50, ""), (99, "≤ 20 ms")):
        found_ms = percentile(polled.times_s, percent) * 1e3
        table.add_row(f"answer, p{percent}", f"{found_ms:.2f} ms", limit)
    table.add_row("server's CPU for an answer", f"{used_s / answered * 1e6:.0f} µs", "")
    table.add_row("server's memory, most", f"{mib:.0f} MiB", "≤ 120 MiB")


def beside_a_flood(table: Table) -> None:
    with tempfile.TemporaryDirectory() as folder, server(Path(folder), 5, "0") as (_, port):
        quiet = neighbour(port, 5)
        with subprocess.Popen(
            ["taskset", "-c", "1", "hey", "-z", f"{SECONDS}s", "-c", str(CONNECTIONS)]
            + ["-H", "Metadata: true", f"http://127.0.0.1:{port}{PATH}"],
            stdout=subprocess.PIPE,
            text=True,
        ) as flood:
            SYSTEM_CLOCK.sleep(1)
            beside = neighbour(port, SECONDS - 2)
            said = flood.communicate()[0]
    statuses = dict(re.findall(r"\[(\d{3})\]\s+(\d+) responses", said))
    table.add_row("a neighbour's answer, alone, worst", f"{max(quiet) * 1e3:.1f} ms", "")
    flooded = f"{max(beside) * 1e3:.1f} ms ({len(beside)} polls)"
    table.add_row("a neighbour's answer beside a flood, worst", flooded, "")
    for status, count in sorted(statuses.items()):
        table.add_row(f"the flood's answers of status {status}", count, "")


def approvals(table: Table) -> None:
    """Runs on one real guest, each approved while it waits."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ["HARNESS_STATE_DIR"] = folder
        lab = labs.up([GuestSpec("g-1", "tiny")], deadline=Deadline.after(180), progress=_quiet)
        hypervisor = LibvirtHypervisor.open(lab.uri, Deadline.after(10))
        try:
            uuid = lab.guests[0].uuid
            found = [one_run(Path(folder), hypervisor, uuid) for _ in range(RUNS)]
        finally:
            hypervisor.close()
            labs.down(_quiet)
    names = ("approval → Started", "Started → paused")
    for column, name in enumerate(names):
        values = [one[column] for one in found]
        said = f"{statistics.median(values):.1f} ms, worst {max(values):.1f} ms of {RUNS}"
        table.add_row(name, said, "≤ 100 ms")


def one_run(folder: Path, hypervisor: LibvirtHypervisor, uuid: str) -> tuple[float, float]:
    """Milliseconds from the approval to Started, and from there to libvirt's SUSPENDED."""
    with Store(folder) as store:
        with subprocess.Popen(
            [
                sys.executable,
                "-P",
                "-m",
                "harness",
                "run",
                "g-1",
                "--notify",
                "10m",
                "--duration",
                "0.1",
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as run:

            def announced() -> str:
                for one in store.events(State.SCHEDULED):
                    return one.event.event_id
                raise NotYet("not announced")

            event_id = wait_for(announced, what="the announcement", deadline=Deadline.after(60))
            SYSTEM_CLOCK.sleep(1)
            store.approve([event_id], "benchmark")
            out, _ = run.communicate(timeout=120)
            assert run.returncode == 0, out
        event = store.find(event_id)
    journal = max((folder / "runs").glob("*/journal.jsonl"))
    (started_ns,) = [line.boottime_ns for line in read(journal).lines if line.event == "started"]
    ahead_ns = boot_ahead_ns(SYSTEM_CLOCK)
    suspended_ns = [e.at_ns for e in hypervisor.events(uuid) if e.kind is EventKind.SUSPENDED][-1]
    approved_to_started = (event.started_ns or 0) - (event.approved_ns or 0)
    return approved_to_started / 1e6, (suspended_ns + ahead_ns - started_ns) / 1e6


def _quiet(line: str) -> None:
    pass


def first_in_line() -> None:
    """Have this session go before others, where Linux shares by session."""
    autogroup = Path("/proc/self/autogroup")
    if autogroup.exists():
        autogroup.write_text("-19")


def main() -> None:
    first_in_line()
    table = Table(title=f"Scheduled Events, {GUESTS} guests", title_justify="left")
    for column in ("what", "measured", "allowed"):
        table.add_column(column)
    under_load(table)
    from_everywhere(table)
    if GUESTS == RATE:
        beside_a_flood(table)
        approvals(table)
    Console(width=100).print(table)


if __name__ == "__main__":
    main()
