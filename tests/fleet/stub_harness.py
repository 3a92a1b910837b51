#!/usr/bin/env python3
"""A stand-in for the command `harness` on one host: it answers as the contract says, no more.

Its folder is the host: `behaves` says how a run ends, `calls` keeps each command, `done` the answer
that a second command finds. `order`, beside the folders, has when each run began and ended.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

CODES = {"pass": 0, "fail": 1, "refused": 2, "error": 3, "paused": 4, "not-now": 5, "not-needed": 6}
HERE = Path(sys.argv[0]).absolute().parent
HOST = HERE.name


def read(name: str, default: str = "") -> str:
    """Return what is written in the host's file ``name``."""
    file = HERE / name
    return file.read_text().strip() if file.exists() else default


def append(file: Path, line: str) -> None:
    """Append one line, whoever else does."""
    descriptor = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(descriptor, f"{line}\n".encode())
    os.close(descriptor)


def plan() -> dict:
    """Return who would be paused with whom: a guest of each set, by itself or `together`."""
    sets = read("sets").split()
    guests = [
        {"name": f"{HOST}-{n}", "uuid": f"u{n}", "availability_set": name, "accelerator": "kvm"}
        for n, name in enumerate(sets, 1)
    ]
    domains = [{"name": f"domain {g['name']}", "guests": [g]} for g in guests]
    if read("together"):
        domains = [{"name": "domain 0", "guests": guests}]
    return {
        "update": {"kind": "stand-in", "command": [], "scope": "host", "expected_s": 1.0},
        "budget_s": 30.0,
        "update_domains": domains,
        "warnings": [],
        "later": [],
    }


def error(outcome: str) -> dict:
    """Return an error as the answer has it."""
    return {
        "type": "Stub",
        "message": f"{HOST} says {outcome}",
        "hint": "a hint",
        "guest": None,
        "where": None,
    }


def answer(rollout: str, outcome: str) -> dict:
    """Return the answer of a run that ended so."""
    ended = outcome in ("pass", "fail", "paused")
    record = None
    if ended:
        guest = {
            "name": f"{HOST}-1",
            "outcome": "pass" if outcome == "pass" else "fail",
            "pause_window_s": 1.5,
            "checks": [{"name": "clock", "outcome": "fail", "detail": "5 s slow"}]
            if outcome == "fail"
            else [],
        }
        record = {"run_id": f"run-{HOST}", "guests": [guest]}
    return {
        "schema_version": 1,
        "rollout": rollout,
        "outcome": outcome,
        "exit_code": CODES[outcome],
        "already": False,
        "goes_on": False,
        "error": None if ended and outcome != "paused" else error(outcome),
        "record": record,
        "plan": None,
    }


def run(rollout: str) -> dict:
    """Carry out the host's part, or find it done."""
    done = HERE / f"done.{rollout}"
    if done.exists():
        return {**json.loads(done.read_text()), "already": True}
    order = HERE.parent / "order"
    append(order, f"begin {HOST}")
    for _ in range(100 if read("waits") else 0):  # for a host that is in the same wave
        if f"begin {read('waits')}" in order.read_text():
            break
        time.sleep(0.1)
    if read("closes"):
        Path(read("closes")).write_text("2020-01-01T00:00+00:00")
    if read(
        "leaves"
    ):  # for another kernel, which finishes the run, and is up so many seconds later
        (HERE / "down").touch()
        (HERE / "left").touch()
        words = [sys.executable, __file__, "--come-up", rollout]
        with open(os.devnull, "r+b") as nothing:
            subprocess.Popen(
                words, stdin=nothing, stdout=nothing, stderr=nothing, start_new_session=True
            )
        sys.exit(255)
    found = answer(rollout, read("behaves", "pass"))
    append(order, f"end {HOST}")
    if found["record"]:
        done.write_text(json.dumps(found))
    return found


def come_up(rollout: str) -> None:
    """The next kernel: it finishes the run, and answers."""
    time.sleep(float(read("leaves")))
    found = answer(rollout, read("behaves", "pass"))
    append(HERE.parent / "order", f"end {HOST}")
    (HERE / f"done.{rollout}").write_text(json.dumps(found))
    (HERE / "down").unlink()


def planned(rollout: str | None) -> dict:
    """Return what `plan` prints."""
    refused = read("refuses")
    if refused:
        found = {"error": error(refused)}
        return {**answer(rollout, refused), "plan": None} if rollout else found
    if not rollout:
        return plan()
    done = (HERE / f"done.{rollout}").exists()
    return {**answer(rollout, "pass"), "record": None, "already": done, "plan": plan()}


def main() -> int:
    """Answer one command."""
    words = sys.argv[1:]
    if words[0] == "--come-up":
        come_up(words[1])
        return 0
    append(HERE / "calls", " ".join(words))
    given = [word.partition("=")[2] for word in words if word.startswith("--rollout=")]
    rollout = given[0] if given else None
    if read("behaves") == "nonsense":
        sys.stdout.write("Segmentation fault")
        return 139
    if words[0] == "doctor":
        if read("when_looked_at") == "cut off":
            (HERE / "down").touch()
        level = "problem" if read("sick") else "ok"
        finding = {"name": "libvirt", "level": level, "detail": read("sick"), "fix": "start it"}
        sys.stdout.write(json.dumps({"findings": [finding]}))
        return 3 if read("sick") else 0
    if words[0] == "recover":
        sys.stdout.write(json.dumps({"runs": [], "paused": []}))
        return 0
    said = run(rollout or "") if words[0] == "run" else planned(rollout)
    sys.stdout.write(json.dumps(said))
    return said.get("exit_code", 0)


if __name__ == "__main__":
    sys.exit(main())
