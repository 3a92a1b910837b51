"""What a rollout costs the controller and the fleet's database, and how that grows.

    make bench-fleet [STUBS="10 50 1000"] [SSH="10 100"] [PARTS="100 1000"] [ONCE=--once]
        [WRITE=--write]

The whole playbook on hosts whose `harness` is a stand-in, in one wave: stubs are reached without
SSH, the others by one sshd that has an address for each. Then what hosts of a rollout tell a real
PostgreSQL. ``--write`` puts the tables into docs/how-to/fleet.md.
"""

from __future__ import annotations

import os
import tempfile
from argparse import ArgumentParser
from datetime import UTC, datetime
from pathlib import Path

from benchmarks import document
from benchmarks.fleet import controller, database


def main() -> None:
    """Measure, print, and write where asked."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--stubs", nargs="*", type=int, default=[10, 50], metavar="HOSTS")
    parser.add_argument("--ssh", nargs="*", type=int, default=[10, 50], metavar="HOSTS")
    parser.add_argument("--parts", nargs="*", type=int, default=[100, 1000], metavar="HOSTS")
    parser.add_argument("--once", action="store_true", help="not the same again: half the time")
    parser.add_argument("--write", action="store_true")
    asked = parser.parse_args()
    load = os.getloadavg()[0]
    rows = []
    for way, counts in (("stub", asked.stubs), ("SSH", asked.ssh)):
        for count in counts:
            with tempfile.TemporaryDirectory() as folder:
                used = controller.measure(
                    count, Path(folder), ssh=way == "SSH", again=not asked.once
                )
            first, *again = used
            cpu = f"{first.cpu_s:.0f} s"
            cells = [cpu, f"{first.cpu_s / count:.2f} s", f"{first.peak_mib:.0f} MiB"]
            more = [f"{first.took_s:.0f} s", f"{again[0].cpu_s:.0f} s" if again else ""]
            rows.append([str(count), way, *cells, *more])
            print(*rows[-1], flush=True)
    header = ["hosts", "reached by", "CPU of the controller", "a host", "its memory at most"]
    playbook = document.table([*header, "it took", "CPU of the same again"], rows)
    stored = document.table(database.HEADER, [database.measure(count) for count in asked.parts])
    text = f"{playbook}\n\n{stored}"
    print(text)
    if asked.write:
        at = f"{document.machine()}, {datetime.now(UTC):%Y-%m-%d %H:%M} UTC, load {load:.1f} before"
        file = document.DOCS / "how-to" / "fleet.md"
        document.write(file, "fleet", f"\n{at}:\n\n{text}\n")


if __name__ == "__main__":
    main()
