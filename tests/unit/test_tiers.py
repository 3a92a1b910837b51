"""Walls between tiers: a tier imports itself, the root of tests/, and harness; no other tier."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import harness.testing

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


def test_what_is_shipped_imports_nothing_of_the_tests():
    """A user's own tests have no folder of that name, or another one."""
    found = {
        path.name: [name for name in imported(path.read_text()) if name.startswith("tests")]
        for path in SHIPPED.rglob("*.py")
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
