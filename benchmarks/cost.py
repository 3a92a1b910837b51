"""A program as a process of its own: what it said, and what it cost."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

_PARENT = Path(__file__).with_name("small_parent.py")


@dataclass(frozen=True)
class Cost:
    """Of one process, and of all it waited for."""

    total_s: float
    """From its start to its end."""
    cpu_s: float
    """User and system time."""
    memory_mib: float
    """The largest of them."""


def measured(
    command: Sequence[str],
    *,
    codes: tuple[int, ...] = (0,),
    environment: Mapping[str, str] | None = None,
) -> tuple[str, Cost]:
    """Return its stdout, and what it cost; SystemExit if it ends with none of ``codes``."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as cost:
        done = subprocess.run(
            [sys.executable, "-I", str(_PARENT), str(cost.fileno()), *command],
            check=False,
            env=environment,
            stdout=out,
            stderr=subprocess.PIPE,
            pass_fds=(cost.fileno(),),
        )
        for file in (out, cost):
            file.seek(0)
        said = out.read()
        if done.returncode not in codes:
            words = (said + done.stderr).decode(errors="replace")[-2000:]
            raise SystemExit(f"{' '.join(command)} ended with {done.returncode}: {words}")
        return said.decode(), Cost(**json.loads(cost.read()))
