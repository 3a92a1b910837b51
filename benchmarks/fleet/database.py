"""What the hosts of a rollout tell a real PostgreSQL, and what that takes of it.

Each host's part is what a run of one update domain tells: that it begins, its lease, the edges of
its update domain, its end with the whole record. Hosts tell it one after another.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from pathlib import Path

import sqlalchemy as sa

from harness.fleet.database import FleetDatabase
from harness.fleet.leases import release, take
from harness.fleet.progress import Patience, Progress
from harness.fleet.rollouts import read_rollout
from harness.results.answer import Answer, Ending
from harness.testing.runs import a_guest, a_run
from tests.postgresql import PostgreSQL, connected, postgresql_server

HEADER = [
    *("hosts, 10 guests each", "PostgreSQL's CPU", "a host", "its memory at most"),
    *("its rows and indexes", "it took", "`harness fleet status` reads it in"),
]


def measure(count: int) -> list[str]:
    """Return the row of a table."""
    with postgresql_server() as server:
        began, before_s = time.monotonic(), _cpu_s(server)
        peak_mib = max(_part(server, number) for number in range(count))
        took_s, cpu_s = time.monotonic() - began, _cpu_s(server) - before_s
        looked = time.monotonic()
        read_rollout(FleetDatabase(server.url), "bench")
        looked_s = time.monotonic() - looked
        mib = _size(server) / 2**20
    used = [f"{cpu_s:.1f} s", f"{1000 * cpu_s / count:.0f} ms", f"{peak_mib:.0f} MiB"]
    return [str(count), *used, f"{mib:.1f} MiB", f"{took_s:.0f} s", f"{looked_s:.2f} s"]


def _part(server: PostgreSQL, number: int) -> float:
    """Tell one host's part; return the server's memory while the host is connected."""
    host, run_id = f"host{number}", f"20261128T000000Z-{number:06}"
    database = FleetDatabase(server.url)
    progress = Progress(database, "bench", host, Patience(60, 60, 60), print)
    progress.begins()
    progress.run_begins(run_id)
    sets = [f"set{number}"]
    take(database, sets, update_domain="0", run_id=run_id, host=host, seconds=60)
    progress.domain_begins(1, 1)
    with database.changing():
        mib = _memory_mib(server)
    progress.domain_ended(1, 1)
    release(database, sets, run_id)
    record = a_run(*(a_guest(f"web{guest}") for guest in range(10)), run_id=run_id)
    progress.ended(Answer(rollout="bench", outcome=Ending.PASS, exit_code=0, record=record))
    return mib


def _processes(server: PostgreSQL) -> list[int]:
    first = int((server.folder / "data" / "postmaster.pid").read_text().split()[0])
    children = Path(f"/proc/{first}/task/{first}/children").read_text().split()
    return [first, *map(int, children)]


def _cpu_s(server: PostgreSQL) -> float:
    """Return that of its processes, and of those that have ended."""
    ticks = 0
    for number, pid in enumerate(_processes(server)):
        with suppress(OSError):
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            ticks += sum(map(int, fields[11:15] if number == 0 else fields[11:13]))
    return ticks / os.sysconf("SC_CLK_TCK")


def _memory_mib(server: PostgreSQL) -> float:
    """Return that of all its processes; what they share is counted once."""
    kib = 0
    for pid in _processes(server):
        with suppress(OSError):  # it has ended meanwhile
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
            kib += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return kib / 1024


def _size(server: PostgreSQL) -> int:
    engine = connected(server.url)
    tables = ("lease", "rollout", "rollout_host", "rollout_part")
    with engine.connect() as connection:
        asked = (sa.text(f"SELECT pg_total_relation_size('{table}')") for table in tables)
        found = sum(int(connection.execute(one).scalar_one()) for one in asked)
    engine.dispose()
    return found
