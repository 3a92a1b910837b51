"""The reference is complete; the schema takes what harness takes; what is shown can be pasted."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import jsonschema
import pytest
from pydantic import BaseModel

from harness.cli.commands import clock, events_serve, fleet, nightly, plan, run
from harness.cli.flags import FLAGS
from harness.core.config import load
from harness.core.config_text import as_toml
from harness.core.errors import ConfigError
from harness.core.explained import json_schema, meanings
from harness.core.keys import environment_name, list_keys, scalar_keys, settings
from harness.core.variables import OTHERS, TOLD
from harness.updates.registry import FULL_CONFIG, KINDS
from scripts.reference import page

ROOT = Path(__file__).parents[2]
SCHEMA = json_schema(FULL_CONFIG)


def test_every_key_flag_and_variable_is_in_the_reference_and_means_something():
    """A row for each; none without a meaning."""
    text = page()
    for key, _ in settings(FULL_CONFIG):
        rows = re.findall(rf"^\| `{key.rpartition('.')[2]}` \|.*$", text, re.MULTILINE)
        named = key in ("guest", "availability_set")  # tables, with headings of their own
        assert named or rows, key
        assert all(not row.endswith("|  |") for row in rows), rows
    variables = [environment_name(key) for key, _ in scalar_keys(FULL_CONFIG)]
    for word in (*variables, *OTHERS, *TOLD, *FLAGS.values()):
        assert f"`{word}`" in text or f"`{word}" in text, word
    assert {f"kind `{kind}`" for kind in KINDS} <= set(re.findall(r"kind `[a-z-]+`", text))


def test_a_flag_that_is_named_is_one_and_sets_that_key():
    """An error that names a flag which is not there would send a person nowhere."""
    commands = [run.command, plan.command, nightly.command, events_serve.serve,
                clock.show, clock.correct, fleet.plan]  # fmt: skip
    options = {opt for command in commands for one in command.params for opt in one.opts}
    assert set(FLAGS.values()) - options == set()
    known = {*(key for key, _ in scalar_keys(FULL_CONFIG)), *list_keys(FULL_CONFIG)}
    assert set(FLAGS) - known == set()


def test_plan_takes_what_run_takes():
    """A program has one list of options for both."""
    taken = [
        {opt for one in command.params if not getattr(one, "hidden", False) for opt in one.opts}
        for command in (plan.command, run.command)
    ]
    assert taken[0] == taken[1]


def test_every_field_says_what_it_means():
    """Of every kind of update too."""
    for kind in KINDS.values():
        section: type[BaseModel] = kind.settings
        assert set(section.model_fields) - set(meanings(section)) == set()


GOOD = [
    "",
    'budget_s = "30s"\nsoak_s = 0\n[clock]\ntolerance_s = "5ms"\nmethods = ["slew"]',
    '[update]\nkind = "command"\ncommand = ["./x.sh"]\nexpected_s = "2m"',
    '[update]\nscope = "host"\nduration_s = 1',
    '[[guest]]\nname = "web1"\nssh.port = 22\ntolerance_s = 0.01',
    '[[availability_set]]\nname = "web"\ndays = ["sat"]\nhours = "22:00-04:00"',
    '[[checks.own]]\nname = "a"\ncommand = ["/bin/true"]\ntimeout_s = "3s"',
    '[events]\nnotice_s = "15m"\nport = 0',
    "[[update]]\nduration_s = 1",
    '[[update]]\nduration_s = 1\n[[update]]\nkind = "sysctl"\nsysctl = ["a=1"]',
]
BAD = [
    "bugdet_s = 3",
    'budget_s = "30"',
    "budget_s = 0",
    'budget_s = "soon"',
    "[clock]\nsamples = 0",
    '[clock]\nmethods = ["chrony"]',
    '[update]\nkind = "comand"',
    '[update]\nsysctl = ["a=1"]',
    '[update]\nkind = "command"\ncommand = "./x.sh"',
    "update = []",
    '[[update]]\n[[update]]\nsysctl = ["a=1"]',
    "[[guest]]\naddress = 'x'",
    "[ssh]\nport = 70000",
    '[[availability_set]]\nname = "web"\ndays = ["saturday"]',
]


def taken(tmp_path, text: str) -> bool:
    """Return True if harness reads ``text``."""
    file = tmp_path / "harness.toml"
    file.write_text(text)
    try:
        load(file, environment={}, flags={}, model=FULL_CONFIG)
    except ConfigError:
        return False
    return True


@pytest.mark.parametrize("text", [*GOOD, *BAD])
def test_the_schema_takes_and_refuses_what_harness_does(tmp_path, text):
    """By a validator that others made."""
    validator = jsonschema.Draft202012Validator(SCHEMA)
    assert validator.is_valid(tomllib.loads(text)) == taken(tmp_path, text) == (text in GOOD)


def test_the_schema_itself_is_one():
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


def test_examples_in_the_documentation_are_taken():
    """Every block of TOML that is a configuration; experiments have a file of their own."""
    validator = jsonschema.Draft202012Validator(SCHEMA)
    blocks = 0
    for file in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]:
        for block in re.findall(r"```toml\n(.*?)```", file.read_text(), re.DOTALL):
            if "[grid]" in block:
                continue
            blocks += 1
            errors = list(validator.iter_errors(tomllib.loads(block)))
            assert errors == [], f"{file.name}: {block}"
    assert blocks > 3


@pytest.mark.parametrize("text", GOOD)
def test_what_is_shown_can_be_pasted(tmp_path, text):
    """It is TOML, of the same configuration; each line says where its value came from."""
    file = tmp_path / "harness.toml"
    file.write_text(text)
    first = load(file, environment={"HARNESS_SPREAD": "2"}, flags={}, model=FULL_CONFIG)
    shown = as_toml(first)
    assert "spread = 2  # environment HARNESS_SPREAD" in shown
    lines = [line for line in shown.splitlines() if line and not line.startswith("[")]
    assert all("  # " in line for line in lines), lines
    file.write_text(shown)
    assert load(file, environment={}, flags={}, model=FULL_CONFIG).config == first.config


def test_odd_names_are_shown_as_they_are(tmp_path):
    """Quotes, backslashes, tabs in paths, other scripts."""
    odd = "a\"b\\c'd \u007f Ж 夜 #"
    settings_ = {"checks.disk_folder": odd.replace("\u007f", ""), "uri": "x:///" + odd[:5]}
    first = load(None, environment={}, flags=settings_, model=FULL_CONFIG)
    file = tmp_path / "harness.toml"
    file.write_text(as_toml(first))
    assert load(file, environment={}, flags={}, model=FULL_CONFIG).config == first.config
