"""``[[update]]`` more than once."""

from __future__ import annotations

import pytest

from harness.core.config import load, overlaid
from harness.core.config_text import as_toml
from harness.core.errors import ConfigError
from harness.updates.registry import FULL_CONFIG

TWO = """
[[update]]
kind = "command"
command = ["./patch.sh"]
scope = "guest"
[[update]]
kind = "qemu"
tree = "new"
expected_s = "4s"
"""


@pytest.fixture
def read(tmp_path):
    """Return what a configuration with that text is."""

    def loaded(text: str, *, environment=None, **flags):
        file = tmp_path / "harness.toml"
        file.write_text(text)
        named = {key.replace("__", "."): value for key, value in flags.items()}
        return load(file, environment=environment or {}, flags=named, model=FULL_CONFIG)

    return loaded


def test_updates_are_kept_in_order(read, tmp_path):
    """Each of its kind, with its paths beside the file."""
    first, second = read(TWO).config.updates
    assert (first.kind, first.command, first.scope) == ("command", ("./patch.sh",), "guest")
    assert (second.kind, second.tree, second.expected_s) == ("qemu", tmp_path / "new", 4.0)


def test_a_list_of_one_is_that_one(read):
    """As if it were a table; flags lie over it."""
    text = '[[update]]\nkind = "command"\ncommand = ["a"]'
    config = read(text, update__expected_s=3.0).config
    assert (config.update.kind, config.update.expected_s, config.further_updates) == (
        "command",
        3.0,
        (),
    )
    assert read(text).config == read(text.replace("[[update]]", "[update]")).config


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (TWO + "duraton_s = 1", r"update\[2\].duraton_s: unknown key"),
        (TWO + "again = 1", r"update\[2\].again: must be true or false \(given: 1\)"),
        (TWO + "sysctl = ['a=1']", r"update\[2\].sysctl: belongs to kind sysctl, not to qemu"),
        (TWO.replace('"qemu"', '"qemo"'), r"update\[2\].kind: unknown kind 'qemo' .*'qemu'"),
        (TWO.replace('"qemu"', "5"), r"update\[2\].kind: must be text \(given: 5\)"),
        (TWO.replace('["./patch.sh"]', '"x"'), r"update\[1\].command: must be a list"),
        (TWO.replace('"command"', '"comand"'), r"update\[1\].kind: unknown kind 'comand'"),
        (TWO.replace("scope", "again"), r"update\[1\].again: belongs to kind qemu, not to comm"),
        ("update = []", r"update: must be a table, or tables: \[\[update\]\]"),
        ("update = [3]", r"update: must be a table, or tables"),
        ("[[further_updates]]\nkind = 'hold'", r"further_updates: unknown key .*\[\[update\]\] "),
    ],
)
def test_what_is_wrong_with_one_of_them_is_said_of_that_one(read, tmp_path, text, words):
    """File, number, key."""
    with pytest.raises(ConfigError, match=words) as caught:
        read(text)
    assert str(caught.value).startswith(str(tmp_path / "harness.toml: "))


def test_a_kind_at_the_command_line_chooses_one_or_replaces_all(read):
    """``harness run --kind stand-in`` rehearses any configuration, of several updates too."""
    chosen = read(TWO, update__kind="qemu", update__expected_s=9.0).config
    assert (chosen.update.kind, chosen.update.expected_s, len(chosen.updates)) == ("qemu", 9.0, 1)
    assert chosen.update.tree is not None
    other = read(TWO, environment={"HARNESS_UPDATE_KIND": "stand-in"}).config
    assert (other.update.kind, other.update.scope, len(other.updates)) == ("stand-in", None, 1)
    twice = TWO + '[[update]]\nkind = "command"\ncommand = ["b"]'
    with pytest.raises(ConfigError, match="2 of the 3 updates are of kind command"):
        read(twice, update__kind="command")


def test_any_other_key_at_the_command_line_is_refused_beside_several(read):
    """Which of them it means is not for harness to guess; the person's own word is named."""
    with pytest.raises(ConfigError, match="flag: update.expected_s: is for one update, but 2 are"):
        read(TWO, update__expected_s=1.0)
    with pytest.raises(ConfigError, match="^HARNESS_UPDATE_SCOPE: is for one update, but 2 are"):
        read(TWO, environment={"HARNESS_UPDATE_SCOPE": "host"})
    assert len(read(TWO, budget_s=9.0).config.updates) == 2


def test_several_are_shown_with_their_numbers_and_can_be_pasted(read, tmp_path):
    """Each key with its value and origin."""
    first = read(TWO)
    shown = {key: (value, origin) for key, value, origin in first.shown()}
    origin = str(tmp_path / "harness.toml")
    assert shown["update[1].command"] == (["./patch.sh"], origin)
    assert shown["update[2].kind"] == ("qemu", origin)
    assert not [key for key in shown if key.startswith(("update.", "further"))]
    assert read(as_toml(first)).config == first.config


def test_several_are_laid_over_as_at_the_command_line(read):
    """For experiments and tests."""
    base = read(TWO).config
    assert overlaid(base, {"budget_s": 5.0}, FULL_CONFIG).updates == base.updates
    changed = overlaid(base, {"update.kind": "stand-in", "update.duration_s": 1.0}, FULL_CONFIG)
    assert (changed.update.kind, len(changed.updates)) == ("stand-in", 1)
    with pytest.raises(ConfigError, match="is for one update, but 2 are configured"):
        overlaid(base, {"update.scope": "host"}, FULL_CONFIG)


def test_a_stored_configuration_has_them_all(read):
    """``config.json`` of a run is read without knowing the kinds."""
    from harness.core.settings import Config

    config = read(TWO).config
    stored = Config.model_validate_json(config.model_dump_json())
    assert [one.kind for one in stored.updates] == ["command", "qemu"]
