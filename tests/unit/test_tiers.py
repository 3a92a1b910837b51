"""Walls between tiers: a tier imports itself, the root of tests/, and harness; no other tier."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from types import SimpleNamespace

import pytest

import harness.testing
from tests import conftest

TESTS = Path(__file__).parents[1]
TIERS = sorted(path.name for path in TESTS.iterdir() if (path / "__init__.py").exists())
SHIPPED = Path(harness.testing.__file__).parent


def imported(text: str) -> set[str]:
    """Every module that is imported, and every name that is taken from one."""
    found = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def strangers(text: str, tier: str) -> list[str]:
    """What a module of ``tier`` imports of other tiers."""
    if not re.search(r"\bimport\b.*\btests\b|\bfrom tests\b", text):  # to read all takes time
        return []
    others = {f"tests.{name}" for name in TIERS if name != tier}
    return sorted(name for name in imported(text) if ".".join(name.split(".")[:2]) in others)


@pytest.mark.parametrize("tier", TIERS)
def test_no_tier_imports_another(tier):
    """What two of them need lies in harness/testing/ or at the root of tests/."""
    found = {
        str(path.relative_to(TESTS)): strangers(path.read_text(), tier)
        for path in (TESTS / tier).rglob("*.py")
    }
    assert {name: taken for name, taken in found.items() if taken} == {}


def recipe(target: str) -> str:
    """What a target of the Makefile does."""
    makefile = (TESTS.parent / "Makefile").read_text()
    return re.search(rf"^{target}:.*\n((?:\t.*\n)+)", makefile, re.M)[1]


def test_make_test_runs_every_tier_and_no_test_twice():
    """What is not marked runs under `coverage`, what is marked with real guests after it."""
    without, marked = recipe("coverage"), recipe("test")
    assert '-m "not guest"' in without
    assert "-m guest" in marked
    tiers = {*re.findall(r"tests/(\w+)", without + marked)}
    tiers |= {*re.findall(r"tests/(\w+)", recipe("test-kvm") + recipe("test-vagrant"))}
    for alone in ("test-install", "test-fleet", "test-live-kernel"):
        tiers |= {*re.findall(r"tests/(\w+)", recipe(alone))}
    assert tiers == set(TIERS)


@pytest.mark.parametrize(
    ("tier", "fixtures", "marked"),
    [
        ("drills", (), True),
        ("guest", (), True),
        ("contract", (), False),
        ("contract", ("lab",), True),
        ("unit/guest", (), False),
    ],
)
def test_what_needs_guests_is_marked(tier, fixtures, marked):
    """Every test of a tier with guests, or nothing would run those that forget to ask for one."""
    found: list[pytest.MarkDecorator] = []
    test = SimpleNamespace(
        path=TESTS / tier / "test_x.py", fixturenames=fixtures, add_marker=found.append
    )
    conftest.pytest_collection_modifyitems([test])
    assert found == ([pytest.mark.guest] if marked else [])


def test_what_is_shipped_imports_nothing_of_the_tests():
    """A user's own tests have no folder of that name, or another one."""
    found = {
        path.name: [name for name in imported(path.read_text()) if name.startswith("tests")]
        for path in SHIPPED.rglob("*.py")
        if "tests" in path.read_text()
    }
    assert {name: taken for name, taken in found.items() if taken} == {}


@pytest.mark.parametrize(
    ("text", "taken"),
    [
        ("from tests.kvm import losses", ["tests.kvm.losses"]),
        ("from tests import kvm", ["tests.kvm"]),
        ("def f():\n    import tests.guest.conftest", ["tests.guest.conftest"]),
        ("from tests.losses import MOST\nfrom tests.unit.checks import x\nimport harness", []),
    ],
)
def test_a_breach_would_be_noticed(text, taken):
    """However it is written; what lies at the root, or in the same tier, is none."""
    assert strangers(text, "unit") == taken
