"""What functions of harness/ ask of their callers, read from their annotations."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from tests.unit.test_walls import ROOT

FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


def asked_by(source: str) -> Iterator[tuple[str, frozenset[str]]]:
    """Each function of ``source``, and the names of types that its parameters are annotated with.

    A dataclass counts as its own ``__init__``.
    """
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, FUNCTIONS):
            spec = node.args
            asked = [*spec.posonlyargs, *spec.args, *spec.kwonlyargs]
            hints = [one.annotation for one in asked if one.annotation is not None]
        elif isinstance(node, ast.ClassDef) and node.decorator_list:
            hints = [one.annotation for one in node.body if isinstance(one, ast.AnnAssign)]
        else:
            continue
        words = re.findall(r"\w+", " ".join(ast.unparse(hint) for hint in hints))
        yield node.name, frozenset(words)


def modules() -> Iterator[tuple[str, Path]]:
    """Every module of harness/, by its path below it."""
    for path in sorted(ROOT.rglob("*.py")):
        yield path.relative_to(ROOT).as_posix(), path


def both(source: str) -> set[str]:
    """Functions that take a deadline, and beside it a clock that it has already."""
    if "Deadline" not in source or "Clock" not in source:  # to read all of harness takes time
        return set()
    return {name for name, asked in asked_by(source) if {"Deadline", "Clock"} <= asked}


def test_the_clock_comes_with_the_deadline():
    """Two clocks in one call are one too many: they may differ."""
    found = {(path, name) for path, file in modules() for name in both(file.read_text())}
    assert found == set()


def test_a_clock_beside_a_deadline_would_be_noticed():
    """In any place, also optional."""
    assert both("def f(a: Deadline, *, b: Clock | None = None): ...") == {"f"}
    assert both("async def f(b: Clock = X, a: Deadline = Y): ...") == {"f"}
    assert both("@dataclass\nclass A:\n    a: Deadline\n    b: Clock") == {"A"}
    assert not both("def f(a: Deadline): ...\ndef g(b: Clock) -> Deadline: ...")


#: Who takes the whole configuration, of what is below api/: those that make or keep it, and the
#: ways into a room, which hand out its parts. All others take the section or the numbers they need.
WHOLE = {
    ("events/announcement.py", "announcement"),
    ("fleet/followed.py", "followed"),
    ("fleet/progress.py", "of"),
    ("maintenance/plan.py", "of"),
    ("maintenance/run.py", "run"),
    ("maintenance/survey.py", "survey"),
    ("results/folder.py", "write_config"),
}
#: What is above, and what makes the configuration and says what may be in it.
CORE = ("config.py", "config_errors.py", "explained.py", "keys.py", "several.py", "variables.py")
ABOVE = ("api/", "pytest_plugin.py", "cli/", "testing/", *(f"core/{name}" for name in CORE))


def whole(source: str) -> set[str]:
    """Functions, and records, that are given the whole configuration."""
    if not re.search(r"\bConfig\b", source):
        return set()
    return {name for name, asked in asked_by(source) if "Config" in asked}


def test_functions_take_the_section_that_they_need():
    """One that takes all of it says nothing of what it depends on."""
    below = [(path, file) for path, file in modules() if not path.startswith(ABOVE)]
    assert {(path, name) for path, file in below for name in whole(file.read_text())} == WHOLE


def test_the_whole_configuration_would_be_noticed():
    """As a parameter, or kept in a record."""
    assert whole("def f(x: int, *, config: Config | None = None): ...") == {"f"}
    assert whole("@dataclass(frozen=True)\nclass Tools:\n    config: Config") == {"Tools"}
    assert not whole("def f(settings: ClockSection) -> Config: ...")
