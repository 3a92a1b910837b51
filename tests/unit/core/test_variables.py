"""Variables of the environment: every one that is named anywhere is known, others are refused."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import pytest

from harness.core.errors import ConfigError
from harness.core.variables import OTHERS, TOLD, known_variables, refuse_unknown
from harness.updates.registry import FULL_CONFIG

ROOT = Path(__file__).parents[3]
PLACES = ("harness", "scripts", "benchmarks", "packaging", "vm-images", "Makefile", "Vagrantfile")


@cache
def texts(*places: str) -> tuple[str, ...]:
    """Return what is written in files, or below folders; not what Python made of it."""
    files = [file for place in places for file in [ROOT / place, *(ROOT / place).rglob("*")]]
    read = [file for file in files if file.is_file() and file.parent.name != "__pycache__"]
    return tuple(file.read_text() for file in read)


def named() -> set[str]:
    """Return every variable that program text names."""
    return {
        name for text in texts(*PLACES) for name in re.findall(r"\bHARNESS_[A-Z_]*[A-Z]\b", text)
    }


def test_every_variable_that_is_read_or_set_anywhere_is_known():
    """One that is not would be refused by every command below a script that sets it."""
    found = named()
    assert found >= {"HARNESS_STATE_DIR", "HARNESS_RUN_ID", "HARNESS_NAMESPACE"}
    assert found - set(known_variables(FULL_CONFIG)) == set()


def test_what_is_known_is_used():
    """A name that nothing reads or sets any more would be told to people for ever."""
    tests = "".join(file.read_text() for file in (ROOT / "tests").rglob("*.py"))
    unused = {name for name in {**OTHERS, **TOLD} if not re.search(rf"\b{name}\b", tests)}
    places = [text for text in texts("harness") if "OTHERS: Mapping" not in text]
    everything = "".join([*places, *texts(*PLACES[1:])])
    assert {name for name in unused if not re.search(rf"\b{name}\b", everything)} == set()


def test_an_unknown_variable_is_refused_with_the_nearest():
    with pytest.raises(ConfigError) as told:
        refuse_unknown({"HARNESS_CLOCK_TOLERENCE_S": "1", "OTHER": ""}, FULL_CONFIG)
    assert str(told.value) == (
        "HARNESS_CLOCK_TOLERENCE_S: unknown variable "
        "(hint: did you mean HARNESS_CLOCK_TOLERANCE_S?)"
    )
    assert told.value.exit_code == 2
    refuse_unknown(["PATH", "_HARNESS_COMPLETE", "HARNESS_STATE_DIR"], FULL_CONFIG)
