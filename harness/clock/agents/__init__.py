"""The programs that read (and set) a guest's clock from inside; one an interpreter.

Each answers a line to a line on its standard input and output until that is closed. It is passed
as an argument, so no file is left in the guest, and nothing is ever put into its text. Not even the
one in Python is imported here. The one for Windows is read from standard input by PowerShell, which
compiles the C# that does its work (:mod:`harness.guest.powershell`).

Questions are numbered, and an answer begins with its question's number N:

==============  ================================================================================
question        answer after the number
==============  ================================================================================
``h N``         ``hello`` and what it can do (:class:`Ability`); ``sh``: and what starting ``date``
                takes, the least of all times that it was asked so
``r N``         ``received sent monotonic boottime``, nanoseconds; ``sh``: see its first lines
``s N NS``      ``ok`` or errno: one relative step of CLOCK_REALTIME
``f N NS A B``  that step, only if CLOCK_REALTIME is from A to B as this is read: ``stepped received
                after sent monotonic boottime``, of which ``received`` is by the clock as it was; if
                it is not, what ``r N`` says; or errno
``d N S``       ``ok`` or ``failed …``: set it to that whole second, at once (``sh`` only)
``t N PPM NS``  ``ok`` or errno: run that much faster for so long, then as before
``p N NS``      ``ok`` or errno: step to KVM's PTP clock plus that much
``a N``         ``ok``, errno or ``failed …``: may the clock be set? Told by a change that changes
                nothing; by ``sh`` without ``adjtimex``, by what it sees of its capabilities; in
                Windows by enabling the privilege for the agent's own process
``u N``         the machine's UUID as its firmware tells it, or ``none``
``c N``         the RTC in whole seconds since 1970 UTC, or ``none``
``w N 1|2|0``   start, show, or end the probe: looks, times CLOCK_REALTIME went back, worst of
                it, its jumps, the last one, times CLOCK_MONOTONIC went back, longest gap; ns
``e N HEX``     run that Python: what it left in ``said``, in hexadecimal, ``-`` or ``error …``
``b N HEX``     run that Python in a child: the first line that it prints
``y N TEXT``    a line for that child: the line that it prints
``l N END W …`` ``lines``, then what is to be seen of W (``guest/in_sh/looks.sh``), then a line of
                END and its status (``sh`` only)
==============  ================================================================================
"""

from __future__ import annotations

import importlib.resources
import shlex
from dataclasses import dataclass
from enum import StrEnum

from harness.guest import in_sh

#: What Windows runs; the others are for Linux.
POWERSHELL = "powershell"


class Ability(StrEnum):
    """What an agent says it can do beyond reading the clock."""

    STEP = "step"
    FORESEEN = "foreseen"
    """It steps at once where its clock is as it was foreseen to be."""
    SLEW = "slew"
    DATE = "date"
    PTP = "ptp"
    RTC = "rtc"
    PROBE = "probe"
    PROGRAMS = "programs"
    """It runs programs that it is handed (``python3`` only)."""
    LOOKS = "looks"
    """It looks at other things than clocks (``sh`` only)."""


@dataclass(frozen=True)
class Agent:
    """A remote program."""

    interpreter: str
    command: str
    text: str = ""
    """What that has the interpreter run."""


def _source(name: str) -> str:
    return importlib.resources.files(__name__).joinpath(name).read_text(encoding="utf-8")


def agent(interpreter: str, *, sudo: bool = False) -> Agent:
    """The agent for ``python3``, ``perl``, ``sh`` or ``powershell``.

    ``sudo``: run by ``sudo -n``, which Windows has not.
    """
    if interpreter == POWERSHELL:
        return Agent(interpreter, _source("powershell_agent.ps1"))
    if interpreter == "python3":
        # -I -S -B: no user site, no site, no .pyc; starts faster and touches nothing.
        start, text = "python3 -ISB -c", _source("python3_agent.py")
    elif interpreter == "perl":
        start, text = "perl -e", _source("perl_agent.pl")
    else:
        start, text = "sh -c", in_sh.looks() + _source("sh_agent.sh")
    command = f"exec {start} {shlex.quote(text)}"
    if sudo:
        # -n: never ask for a password; there is no person to type one.
        command = command.replace("exec ", "exec sudo -n ", 1)
    return Agent(interpreter, command, text)
