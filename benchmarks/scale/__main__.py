"""What a maintenance costs by the number of guests, and where that stops being linear.

    make bench-scale [COUNTS="8 16 32 64"] [MINUTES=6] [WRITE=--write]

Real guests in one lab, harness beside a virsh script and beside bare libvirt calls in the same run,
these also with the probes of all checks at work;
then 256 and 1,000 guests in memory, which shows harness's own part. When ``--minutes`` are over no
maintenance is begun, but for the first with each number of guests. ``--write`` puts the tables and
the picture into docs/explanation/scale.md.
"""

from __future__ import annotations

import json
import subprocess
import sys
from argparse import ArgumentParser
from datetime import UTC, datetime

from benchmarks import document
from benchmarks.scale import page, real

IN_MEMORY = (64, 256, 1000)


def in_memory(count: int) -> page.Sample:
    """One maintenance on a host in memory, in a process of its own."""
    command = [sys.executable, "-P", "-m", "benchmarks.scale.memory", str(count)]
    said = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    return {"way": "in memory", "guests": count, **json.loads(said)}


def main() -> None:
    """Measure, print, and write where asked."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("counts", nargs="*", type=int, default=[8, 16, 32, 64], metavar="GUESTS")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--write", action="store_true")
    asked = parser.parse_args()
    samples: list[page.Sample] = []
    for _ in range(asked.repeats):
        samples += [in_memory(count) for count in IN_MEMORY]
    print(page.tables(samples), flush=True)
    for sample in real.samples(asked.counts, asked.repeats, 60 * asked.minutes):
        print(json.dumps(sample), flush=True)
        samples.append(sample)
    text = page.tables(samples)
    print(text)
    if asked.write:
        at = f"{document.machine()}, under TCG, {datetime.now(UTC):%Y-%m-%d %H:%M} UTC; "
        file = document.DOCS / "explanation" / "scale.md"
        repeats = f"{asked.repeats} repeats, in turn; fewer of many guests, as time allows"
        document.write(file, "scale", f"\n{at}{repeats}.\n\n{text}\n")
        page.draw(samples)


if __name__ == "__main__":
    main()
