"""The one way in for programs."""

from __future__ import annotations

import inspect
from types import ModuleType

from harness import api


def test_what_is_promised_is_there_typed_and_documented():
    """Adding is free; a name that goes breaks other people's programs."""
    assert api.__all__ == [
        "Backend",
        "Outside",
        "Planned",
        "correct_clocks",
        "find_logins",
        "host_keys",
        "load_config",
        "maintain",
        "plan",
        "read_clocks",
        "recover",
        "trust",
    ]
    for name in api.__all__:
        value = getattr(api, name)
        assert value.__doc__, name
        typed = [one.annotation for one in inspect.signature(value).parameters.values()]
        assert inspect.Parameter.empty not in typed, name
    parts = [one for one in vars(api).values() if _is_part(one)]
    assert len(parts) >= 5
    ours = [name for part in parts for name, value in vars(part).items() if _is_of(part, value)]
    assert sorted(name for name in ours if not name.startswith("_")) == sorted(api.__all__)


def _is_part(value: object) -> bool:
    return isinstance(value, ModuleType) and value.__name__.startswith("harness.api.")


def _is_of(part: ModuleType, value: object) -> bool:
    return getattr(value, "__module__", "") == part.__name__


def test_a_configuration_is_found_where_the_command_line_finds_it(tmp_path, monkeypatch):
    """File < environment < settings; None leaves a setting alone."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "harness.toml").write_text("budget_s = 12.0\nsoak_s = 3.0\n")
    loaded = api.load_config(
        settings={"soak_s": 1.0, "budget_s": None}, environment={"HARNESS_BUDGET_S": "11"}
    )
    assert (loaded.config.budget_s, loaded.config.soak_s) == (11.0, 1.0)
    assert str(loaded.file) == "harness.toml"


def test_a_lab_that_is_up_is_used_last_and_told_of(tmp_path, monkeypatch):
    """Without it there are only defaults; with it one line says whose guests are meant."""
    monkeypatch.chdir(tmp_path)
    lab = tmp_path / "lab.toml"
    lab.write_text("budget_s = 9.0\n")
    monkeypatch.setattr("harness.core.paths.config_files", lambda: (tmp_path / "none",))
    monkeypatch.setattr("harness.lab.state.lab_config_file", lambda: lab)
    told: list[str] = []
    assert api.load_config(environment={}, tell=told.append).config.budget_s == 9.0
    assert told == [f"using the configuration of the lab that is up: {lab}"]
