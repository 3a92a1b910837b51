"""The first channel into a guest: it tells what the guest is, and goes on as its clock agent.

Each channel and each process is a tenth of a second and more of an emulated guest's time.
"""

from __future__ import annotations

from collections.abc import Sequence

from harness.clock.agents import agent
from harness.clock.programs import Programs
from harness.clock.sampling import Sampler
from harness.core.errors import ProbeError
from harness.core.timebase import Deadline
from harness.guest import facts
from harness.guest.facts import GuestFacts
from harness.guest.in_python import program
from harness.guest.protocol import GuestShell, Language, LineStream

_PYTHON, _SH = "python3", "sh"
#: What the script says when it has told all facts.
_END = "."
#: Lines of facts that are believed; a guest has a few hundred processes.
_MOST_LINES = 100_000


def command(interpreters: Sequence[str]) -> str:
    """Return the script: python3 tells the facts itself, if it comes first and is there."""
    others = "\n".join(_turn_into(one) for one in interpreters if one != _PYTHON)
    first = f"{_if_there(_PYTHON)}echo {_PYTHON}; {agent(_PYTHON).command}; fi"
    return f"{first}\n{facts.COLLECT}\n{others}\n{_telling('none')}"


def enter(
    shell: GuestShell, interpreters: Sequence[str], deadline: Deadline
) -> tuple[GuestFacts, Sampler] | None:
    """Return what the guest is, and the sampler of its clock; None: look at one after the other.

    That is for a guest that is no Linux, and for one whose first choice does not work. Raises
    ShellUnreachable, DeadlineExpired.
    """
    if shell.speaks is not Language.SH or list(interpreters[:1]) != [_PYTHON]:
        return None
    try:
        stream = shell.stream(command(interpreters), deadline)
    except ProbeError:
        return None
    try:
        found = _entered(shell, stream, deadline)
    except ProbeError:
        found = None
    except BaseException:
        stream.close()
        raise
    if found is None:
        stream.close()
    return found


def _entered(
    shell: GuestShell, stream: LineStream, deadline: Deadline
) -> tuple[GuestFacts, Sampler] | None:
    told: list[str] = []
    chosen = stream.listen(deadline)[0]
    if chosen != _PYTHON:
        while chosen != _END and len(told) < _MOST_LINES:
            told.append(chosen)
            chosen = stream.listen(deadline)[0]
        chosen = stream.listen(deadline)[0]
    sampler = Sampler.of(shell.guest, stream, chosen, deadline)
    said = "\n".join(told)
    if chosen == _PYTHON:
        said = Programs(sampler).evaluate(program("facts"), deadline)
    understood = facts.understood(shell.guest, said)
    return None if understood is None else (understood, sampler)


def _turn_into(interpreter: str) -> str:
    if interpreter == _SH:  # which this is
        return f"{_telling(_SH)}\n{agent(_SH).text}\nexit"
    return f"{_if_there(interpreter)}{_telling(interpreter)}; {agent(interpreter).command}; fi"


def _if_there(interpreter: str) -> str:
    return f"if command -v {interpreter} >/dev/null 2>&1; then "


def _telling(interpreter: str) -> str:
    return f"printf '%s{_END}\\n%s\\n' \"$told\" {interpreter}"
