"""The program that watches from inside the guest: a loop, and only those parts that are wanted.

One process for all of them, because starting a python3 is slow under emulation. It answers a line
to a line until its input is closed, and then tidies up. It is passed as an argument, so no file
is left in the guest; only words that it takes apart itself are ever sent to it.

The parts are ``.py`` files for the sake of linters and are never imported here: in the guest they
are one text, which Python runs as ``__main__``. What an earlier part defines a later one imports
from there.
"""

from __future__ import annotations

import importlib.resources
import shlex
from collections.abc import Collection

from harness.guest import in_sh

PARTS = ("canary", "echo", "disk", "life", "timers")


def python3_program(parts: Collection[str]) -> str:
    """The command that starts the loop with ``parts`` of ``PARTS``."""
    return f"exec python3 -ISB -c {shlex.quote(python3_text(parts))}"


def python3_text(parts: Collection[str]) -> str:
    """The program itself."""
    names = ("start", *(part for part in PARTS if part in parts), "loop")
    return "\n".join(_source(f"{name}.py") for name in names)


def sh_program() -> str:
    """The loop for guests that have a POSIX sh and no python3."""
    return f"exec sh -c {shlex.quote(in_sh.looks() + _source('watch.sh'))}"


def _source(name: str) -> str:
    return importlib.resources.files(__name__).joinpath(name).read_text(encoding="utf-8")
