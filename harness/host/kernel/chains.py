"""The firewall's chains that libvirt's networks take: by two calls, where libvirt makes thirty.

libvirt looks which of its chains are there, and makes those that are missing, each by a program
that is started for it, and tied in by another one. They are empty: the rules of a network are
libvirt's own to make, every time.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator, Mapping

#: Program that tells what there is → program that makes it.
PROGRAMS = {"iptables-save": "iptables-restore", "ip6tables-save": "ip6tables-restore"}
_TABLE = re.compile(r"^\*(\w+)$")
_CHAIN = re.compile(r"^:(LIBVIRT_\w+) ")
#: Only what leads from one of the kernel's own chains to one of libvirt's, without a condition.
_TIED_IN = re.compile(r"^-A ([A-Z]+) -j (LIBVIRT_\w+)$")
_PATIENCE_S = 10.0


def described(programs: Mapping[str, str] = PROGRAMS) -> dict[str, str]:
    """Return what makes libvirt's chains that are there now: program → what it is fed.

    Nothing for a program that this host does not have: libvirt then makes them itself.
    """
    found = {}
    for save, restore in programs.items():
        text = "".join(_chains_of(_said(save)))
        if text:
            found[restore] = text
    return found


def make(wanted: Mapping[str, str]) -> None:
    """Make chains that :func:`described` has told. Never raises: libvirt makes what is missing."""
    for program, text in wanted.items():
        _run((program, "--noflush"), text)


def _chains_of(rules: str) -> Iterator[str]:
    """Yield the lines of each table that has a chain of libvirt's."""
    for table in re.split(r"(?m)^(?=\*)", rules):
        lines = table.splitlines()
        name = _TABLE.match(lines[0]) if lines else None
        chains = [found[1] for line in lines if (found := _CHAIN.match(line))]
        if name is None or not chains:
            continue
        tied = [found for line in lines if (found := _TIED_IN.match(line))]
        yield f"*{name[1]}\n"
        yield from (f":{chain} - [0:0]\n" for chain in chains)
        yield from (f"-A {one[1]} -j {one[2]}\n" for one in tied if one[2] in chains)
        yield "COMMIT\n"


def _said(program: str) -> str:
    return _run((program,), "")


def _run(words: tuple[str, ...], fed: str) -> str:
    try:
        done = subprocess.run(
            words, input=fed, capture_output=True, text=True, timeout=_PATIENCE_S, check=False
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout if done.returncode == 0 else ""
