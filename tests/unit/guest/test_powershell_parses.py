"""Every PowerShell program parses, by tree-sitter's grammar of the language.

No PowerShell runs here. A grammar finds what is not well-formed, and nothing of what is wrong
otherwise.
"""

from __future__ import annotations

import base64

import pytest
import tree_sitter_powershell
from tree_sitter import Language, Node, Parser

from harness.clock.agents import agent
from harness.guest import powershell, windows
from harness.guest.powershell import PowerShellFrame

PROGRAMS = {
    "constant": base64.b64decode(powershell.WORDS[-1]).decode("utf-16-le"),
    "facts": windows.FACTS,
    "mark": windows.MARK,
    "events": windows.events_since(1041),
    "life": windows.LIFE,
    "resync": windows.RESYNC,
    "time service": windows.TIME_SERVICE,
    "state": windows.POWERSHELL_STATE,
    "agent": agent("powershell").command,
}


def troubles(program: str) -> list[str]:
    """Places that the grammar makes nothing of."""
    found: list[str] = []

    def look(node: Node) -> None:
        if node.is_error or node.is_missing:
            found.append(f"line {node.start_point.row + 1}: {node.text!r}"[:120])
        for child in node.children:
            look(child)

    look(Parser(Language(tree_sitter_powershell.language())).parse(program.encode()).root_node)
    return found


def framed(program: str) -> str:
    """As it is sent: between the lines that say where its answer begins and ends."""
    sent = PowerShellFrame().script(program, answers=False)
    return base64.b64decode(sent.split(b"\n")[1]).decode()


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_parses(name):
    """As it is written, and as it is sent."""
    assert troubles(PROGRAMS[name]) == []
    assert troubles(framed(PROGRAMS[name])) == []


@pytest.mark.parametrize("program", ["if (", "'abc", "& {", "@'\nabc"])
def test_what_does_not_parse_would_be_noticed(program):
    """The grammar does find something."""
    assert troubles(program)


def test_every_program_of_the_modules_is_here():
    """One that is added later is parsed as well."""
    texts = {value for value in vars(windows).values() if isinstance(value, str) and "$" in value}
    parts = {value for value in texts if any(value in program for program in PROGRAMS.values())}
    assert {text for text in texts - parts if "%d" not in text} == set()
