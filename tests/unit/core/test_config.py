"""harness.toml → one frozen configuration; every mistake is an error that says where."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.checks import CHECKS
from harness.core.config import load
from harness.core.errors import ConfigError
from harness.updates.registry import FULL_CONFIG


@pytest.fixture
def toml(tmp_path):
    """Write a harness.toml and return its path."""

    def write(text: str) -> Path:
        file = tmp_path / "harness.toml"
        file.write_text(text)
        return file

    return write


def refused(file: Path | None, **layers) -> str:
    with pytest.raises(ConfigError) as caught:
        load(
            file,
            environment=layers.get("environment", {}),
            flags=layers.get("flags", {}),
            model=FULL_CONFIG,
        )
    assert caught.value.exit_code == 2
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "key", "hint"),
    [
        ("budgt_s = 30", "budgt_s", "budget_s"),
        ("[clock]\ntolerence_s = 1.0", "clock.tolerence_s", "tolerance_s"),
        ('[[guest]]\nname = "web1"\nadress = "x"', "guest[web1].adress", "address"),
        ('[[guest]]\nname = "a"\nssh.prot = 22', "guest[a].ssh.prot", "port"),
    ],
)
def test_a_misspelt_key_is_refused_with_file_key_and_nearest_valid_key(toml, text, key, hint):
    """A key that does not exist names the file, itself and what was probably meant."""
    file = toml(text)
    message = refused(file)
    assert str(file) in message
    assert f"{key}: unknown key" in message
    assert f"did you mean {hint!r}" in message


@pytest.mark.parametrize(
    "text",
    [
        'budget_s = "30"',
        "budget_s = 0",
        "budget_s = -1.5",
        "budget_s = nan",
        "budget_s = inf",
        "budget_s = true",
    ],
)
def test_a_budget_that_is_no_positive_number_is_refused(toml, text):
    """Text, zero, negative, NaN, infinite and boolean budgets are all refused by name."""
    assert "budget_s" in refused(toml(text))


def test_two_guests_of_one_name_are_refused(toml):
    """The same guest twice in the configuration is an error, not the last one wins."""
    message = refused(toml('[[guest]]\nname = "a"\n[[guest]]\nname = "a"'))
    assert "two guests are called 'a'" in message


def test_a_reserve_that_eats_the_budget_is_refused(toml):
    """Nothing would be left for the update."""
    message = refused(toml("budget_s = 2.0\nresume_reserve_s = 2.0"))
    assert "leaves nothing" in message


@pytest.mark.parametrize(("text", "word"), [("a =", "TOML"), ('update = "x"', "update")])
def test_what_is_no_configuration_at_all_is_refused(toml, text, word):
    """Broken TOML and a value where a table belongs are configuration errors too."""
    assert word in refused(toml(text))


def test_a_missing_file_is_refused_by_name(tmp_path):
    """A file that was asked for and is not there is never replaced by defaults."""
    assert "no such file" in refused(tmp_path / "none.toml")


def test_flag_beats_environment_beats_file_beats_default(toml):
    """Each layer overrides the one below, and the origin of every value is known."""
    file = toml("budget_s = 10\nsoak_s = 1.0\nresume_reserve_s = 3.0")
    environment = {"HARNESS_BUDGET_S": "20", "HARNESS_SOAK_S": "2", "HARNESS_STATE_DIR": "/x"}
    loaded = load(
        file, environment=environment, flags={"budget_s": 25.0, "uri": None}, model=FULL_CONFIG
    )
    config = loaded.config
    assert (config.budget_s, config.soak_s, config.resume_reserve_s) == (25.0, 2.0, 3.0)
    shown = {key: (value, origin) for key, value, origin in loaded.shown()}
    assert shown["budget_s"] == (25.0, "flag")
    assert shown["soak_s"] == (2.0, "environment HARNESS_SOAK_S")
    assert shown["resume_reserve_s"] == (3.0, str(file))
    assert shown["uri"] == ("qemu:///system", "default")


def test_a_wrong_value_in_the_environment_names_the_variable():
    """The message says which variable, not only which key."""
    message = refused(None, environment={"HARNESS_BUDGET_S": "soon"})
    assert "HARNESS_BUDGET_S" in message
    assert "'soon'" in message


def test_a_wrong_flag_is_told_apart_from_the_file(toml):
    """An error in a flag is not blamed on the file."""
    assert refused(toml("budget_s = 10"), flags={"budget_s": -3}).startswith("flag: budget_s")


def test_a_guest_is_found_by_name_or_uuid_and_defaults_otherwise(toml):
    """A guest without a section of its own gets the defaults."""
    config = load(
        toml('[[guest]]\nname = "web1"\naddress = "10.0.0.1"'),
        environment={},
        flags={},
        model=FULL_CONFIG,
    ).config
    assert config.for_guest("web1").address == "10.0.0.1"
    assert config.for_guest("other", "web1").address == "10.0.0.1"
    assert config.for_guest("other").address is None


def test_paths_are_relative_to_the_file_that_names_them(toml):
    """A key file beside harness.toml is found from any working directory."""
    file = toml('[ssh]\nidentity_file = "key"\nknown_hosts = "~/kh"')
    ssh = load(file, environment={}, flags={}, model=FULL_CONFIG).config.ssh
    assert ssh.identity_file == file.parent / "key"
    assert ssh.known_hosts == Path.home() / "kh"


def test_a_hostile_guest_name_is_just_a_name(toml):
    """Names are data: nothing in them is interpreted."""
    config = load(
        toml("[[guest]]\nname = 'a; touch x'"), environment={}, flags={}, model=FULL_CONFIG
    ).config
    assert config.guest[0].name == "a; touch x"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[checks]\ndisable = ["frozn"]', "did you mean 'frozen'?"),
        ('[checks]\nenable = ["qqq"]', "checks: pause-window, identity, downtime"),
        ('[[checks.own]]\nname = "a"\ncommand = []', "checks.own[1].command"),
        (
            '[[checks.own]]\nname = "a"\ncommand = ["x"]\nstage = ["after"]',
            "did you mean 'stages'?",
        ),
        ('[checks]\nown = [{name="a", command=["x"]}, {name="a", command=["y"]}]', "two checks"),
    ],
)
def test_a_check_that_does_not_exist_is_an_error_with_the_nearest(toml, text, said):
    """A misspelt name would be a promise that nobody judges."""
    assert said in refused(toml(text))


def test_checks_are_chosen_by_name_in_the_order_people_read_them(toml):
    """All by default; only some; all but some."""
    chosen = load(toml(""), environment={}, flags={}, model=FULL_CONFIG).config.checks.chosen
    assert (chosen[0], len(chosen)) == ("pause-window", len(CHECKS))
    some = load(
        toml('[checks]\nenable = ["ram", "clock"]'), environment={}, flags={}, model=FULL_CONFIG
    ).config
    assert some.checks.chosen == ("clock", "ram")
    but = load(
        toml('[checks]\ndisable = ["clock"]'), environment={}, flags={}, model=FULL_CONFIG
    ).config
    assert but.checks.chosen == tuple(name for name in chosen if name != "clock")


def test_a_check_of_the_users_own_belongs_to_guests_or_to_the_update_domain(toml):
    """One of scope host is run once, by the first guest of those that are paused together."""
    text = """
    [[checks.own]]
    name = "db"
    command = ["x"]
    guests = ["db1"]
    [[checks.own]]
    name = "box"
    command = ["x"]
    scope = "host"
    """
    checks = load(toml(text), environment={}, flags={}, model=FULL_CONFIG).config.checks
    together = ("web1", "db1")
    found = {guest: [own.name for own in checks.own_of(guest, together)] for guest in together}
    assert found == {"web1": ["box"], "db1": ["db"]}


LIBVIRTS = {"LIBVIRT_DEFAULT_URI": "qemu:///session"}


@pytest.mark.parametrize(
    ("text", "environment", "flags", "uri", "origin"),
    [
        ("", {}, {}, "qemu:///system", "default"),
        ("", {"LIBVIRT_DEFAULT_URI": ""}, {}, "qemu:///system", "default"),
        ("", LIBVIRTS, {}, "qemu:///session", "environment LIBVIRT_DEFAULT_URI"),
        ('uri = "test:///a"', LIBVIRTS, {}, "test:///a", "FILE"),
        ("", {**LIBVIRTS, "HARNESS_URI": "test:///b"}, {}, "test:///b", "environment HARNESS_URI"),
        ("", LIBVIRTS, {"uri": "test:///c"}, "test:///c", "flag"),
    ],
)
def test_where_nothing_else_is_said_the_connection_is_libvirts_own(
    toml, text, environment, flags, uri, origin
):
    """As for virsh; all that is said to harness goes before it."""
    file = toml(text)
    loaded = load(file, environment=environment, flags=flags, model=FULL_CONFIG)
    shown = {key: (value, where) for key, value, where in loaded.shown()}
    assert loaded.config.uri == uri
    assert shown["uri"] == (uri, str(file) if origin == "FILE" else origin)


@pytest.mark.parametrize(
    ("flag", "variable", "web1", "web2"),
    [
        (None, None, "agent", "auto"),
        ("ssh", None, "ssh", "ssh"),
        (None, "agent", "agent", "agent"),
        ("ssh", "agent", "ssh", "ssh"),
    ],
)
def test_a_way_into_guests_by_flag_or_variable_goes_before_those_in_the_file(
    toml, flag, variable, web1, web2
):
    """As a tolerance does; in the file a guest's own goes before that of all."""
    file = toml('access = "auto"\n[[guest]]\nname = "web1"\naccess = "agent"\n')
    environment = {"HARNESS_ACCESS": variable} if variable else {}
    found = load(file, environment=environment, flags={"access": flag}, model=FULL_CONFIG).config
    ways = [found.for_guest(name).access or found.access for name in ("web1", "web2")]
    assert ways == [web1, web2]


def test_a_way_into_guests_that_there_is_not_is_an_error(toml):
    """It names where it stands, and those that there are."""
    said = refused(toml('[[guest]]\nname = "web1"\naccess = "telnet"\n'))
    assert "guest[web1].access" in said
    assert "agent" in said
    assert load(None, environment={}, flags={}, model=FULL_CONFIG).config.access == "ssh"
