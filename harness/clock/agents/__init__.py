"""The programs that read (and step) a guest's clock from inside; one an interpreter.

Each answers a line to a line on its standard input and output until that is closed. It is passed
as an argument, so no file is left in the guest, and nothing is ever put into its text.
"""

from __future__ import annotations

import importlib.resources
import shlex
from dataclasses import dataclass

from harness.guest.protocol import posix


@dataclass(frozen=True)
class Agent:
    """A remote program and what it can do."""

    interpreter: str
    command: str
    can_step: bool
    """Whether ``s NANOSECONDS`` makes one relative step in one system call."""


def _source(name: str) -> str:
    return importlib.resources.files(__name__).joinpath(name).read_text(encoding="utf-8")


def agent(interpreter: str) -> Agent:
    """The agent for ``python3`` or ``sh``."""
    if interpreter == "python3":
        # -I -S -B: no user site, no site, no .pyc; starts faster and touches nothing.
        command = f"exec python3 -ISB -c {shlex.quote(_source('python3_agent.py.txt'))}"
        return Agent(interpreter, command, can_step=True)
    return Agent(interpreter, posix(_source("sh_agent.sh")), can_step=False)
