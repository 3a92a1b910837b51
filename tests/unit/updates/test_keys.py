"""Keys of ``[update]`` beside the wrong kind, and what earlier runs teach."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, get_args

import pytest

from harness.core.config import load, overlaid
from harness.core.errors import ConfigError
from harness.core.keys import scalar_keys
from harness.core.records import (
    HostRecord,
    Outcome,
    RunRecord,
    UpdateDomainRecord,
    UpdateRecord,
)
from harness.core.settings import Scope, UpdateSection
from harness.results.folder import RunFolder
from harness.updates.command import CommandSettings
from harness.updates.expected import learn
from harness.updates.hold import HoldSettings, HoldUpdate
from harness.updates.kernel_module import KernelModuleSettings
from harness.updates.protocol import UpdateSettings
from harness.updates.registry import FULL_CONFIG, KINDS, Kind, settings_of, whole_config
from harness.updates.stand_in import StandInSettings
from harness.updates.sysctl import SysctlSettings
from tests.unit.updates.made import made

SYSCTL = SysctlSettings(sysctl=("vm.swappiness=10",))


@pytest.fixture
def toml(tmp_path):
    """Write an ``[update]`` section and return its file."""

    def write(text: str):
        file = tmp_path / "harness.toml"
        file.write_text(f"[update]\n{text}\n")
        return file

    return write


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('kind = "sysctl"\nmodule = "x"', "update.module: belongs to kind kernel-module, not to"),
        ('kind = "packages"\nparameters = ["a=1"]', "update.parameters: belongs to kind kernel-"),
        ('kind = "command"\nduration_s = 3.0', "update.duration_s: belongs to kind stand-in"),
        ('sysctl = ["a=1"]', "update.sysctl: belongs to kind sysctl, not to stand-in"),
        ('kind = "sysctl"\nhold = []', "update.hold: belongs to kind packages or libvirt"),
        ('kind = "sysctl"\nsysctl = "a=1"', 'update.sysctl: must be a list .*write ."a=1"'),
        ('kind = "sysctl"\nsysctls = ["a=1"]', "update.sysctls: unknown key .*'sysctl'"),
        (
            'kind = "kernel-module"\naction = "remove"',
            "update.action: must be 'load', 'unload' or 'pa",
        ),
    ],
)
def test_a_key_that_is_misplaced_or_wrong_names_file_and_key(toml, text, words):
    """What would be ignored is a mistake."""
    file = toml(text)
    with pytest.raises(ConfigError, match=f"{file}: {words}") as caught:
        load(file, environment={}, flags={}, model=FULL_CONFIG)
    assert caught.value.exit_code == 2


def test_another_kind_at_the_command_line_leaves_the_files_keys_out(toml):
    """Any configuration can be rehearsed; what is for all kinds stays."""
    file = toml('kind = "sysctl"\nsysctl = ["a=1"]\nscope = "host"')
    update = load(
        file, environment={}, flags={"update.kind": "stand-in"}, model=FULL_CONFIG
    ).config.update
    assert (update.kind, getattr(update, "sysctl", None), update.scope) == (
        "stand-in",
        None,
        "host",
    )
    update = load(
        file, environment={"HARNESS_UPDATE_KIND": "stand-in"}, flags={}, model=FULL_CONFIG
    ).config.update
    assert not hasattr(update, "sysctl")


def test_a_stronger_key_beside_a_weaker_kind_is_a_mistake(toml):
    """Whoever says --duration means a stand-in, and the file says otherwise."""
    file = toml('kind = "sysctl"\nsysctl = ["a=1"]')
    with pytest.raises(ConfigError, match="flag: update.duration_s: belongs to kind stand-in"):
        load(file, environment={}, flags={"update.duration_s": 3.0}, model=FULL_CONFIG)


def test_every_kind_goes_by_one_name():
    """In the registry, in its settings and in its update."""
    for name, kind in KINDS.items():
        assert get_args(kind.settings.model_fields["kind"].annotation) == (name,)
        assert made(kind).kind == name
        assert kind.settings.model_fields["scope"].annotation == Scope | None


def test_a_key_that_several_kinds_have_is_of_one_type():
    """An environment variable is read before the kind is known."""
    seen: dict[str, object] = {}
    for kind in KINDS.values():
        for name, info in kind.settings.model_fields.items():
            if name != "kind":
                assert seen.setdefault(name, info.annotation) == info.annotation, name


def test_a_kind_can_be_asked_for_by_the_environment_alone():
    """Every plain key of every kind has its variable."""
    environment = {"HARNESS_UPDATE_KIND": "kernel-module", "HARNESS_UPDATE_MODULE": "dummy"}
    update = load(None, environment=environment, flags={}, model=FULL_CONFIG).config.update
    assert update == KernelModuleSettings(module="dummy")
    assert {"update.duration_s", "update.previous", "update.simulate", "update.action"} <= {
        key for key, _ in scalar_keys(FULL_CONFIG)
    }


def test_what_is_shown_has_the_keys_of_every_kind(toml):
    """Those of other kinds with their defaults."""
    file = toml('kind = "sysctl"\nsysctl = ["a=1"]')
    shown = {
        key: (value, origin)
        for key, value, origin in load(file, environment={}, flags={}, model=FULL_CONFIG).shown()
        if key.startswith("update.")
    }
    assert shown["update.sysctl"] == (["a=1"], str(file))
    assert shown["update.duration_s"] == (5.0, "default")
    assert list(shown) == [f"update.{key}" for key in (*OLD["update"], *NEWER)]


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ('"comand"', "update.kind: unknown kind 'comand' .*did you mean 'command'"),
        ('"x"', "update.kind: unknown kind 'x' .*kinds: stand-in, command"),
        ("5", r"update.kind: must be text \(given: 5\)"),
    ],
)
def test_an_unknown_kind_is_told_with_its_place(toml, kind, words):
    """As any other mistake in a configuration."""
    file = toml(f"kind = {kind}\nduration_s = 1.0")
    with pytest.raises(ConfigError, match=f"{file}: {words}"):
        load(file, environment={}, flags={}, model=FULL_CONFIG)


def test_another_kind_laid_over_leaves_the_keys_of_the_old_one_out():
    """What an experiment or a test asks for need not undo what the file says."""
    base = FULL_CONFIG(update=SYSCTL)
    changed = overlaid(base, {"update.kind": "command", "update.command": ["true"]}, FULL_CONFIG)
    assert changed.update == CommandSettings(command=("true",))
    assert overlaid(base, {"update.duration_s": 1.0}, FULL_CONFIG).update == SYSCTL


class FirmwareSettings(UpdateSettings):
    """A kind that somebody adds."""

    kind: Literal["firmware"] = "firmware"
    image: Path | None = None
    slots: tuple[str, ...] = ()


def test_a_new_kind_takes_its_settings_and_a_line(toml, tmp_path):
    """Its keys are read, anchored, refused beside another kind, and have variables."""
    added = Kind(FirmwareSettings, lambda settings, site: HoldUpdate(HoldSettings(), site))
    model = whole_config([*KINDS.values(), added])
    file = toml('kind = "firmware"\nimage = "new.bin"\nslots = ["a"]')
    update = load(file, environment={}, flags={}, model=model).config.update
    assert update == FirmwareSettings(image=tmp_path / "new.bin", slots=("a",))
    environment = {"HARNESS_UPDATE_IMAGE": "/x.bin"}
    with pytest.raises(ConfigError, match="^HARNESS_UPDATE_IMAGE: belongs to kind firmware"):
        load(toml('kind = "hold"'), environment=environment, flags={}, model=model)
    with pytest.raises(ConfigError, match="update.slot: unknown key .*did you mean 'slots'"):
        load(toml('kind = "firmware"\nslot = 1'), environment={}, flags={}, model=model)
    with pytest.raises(ConfigError, match="unknown kind 'firmwear' .*did you mean 'firmware'"):
        load(toml('kind = "firmwear"'), environment={}, flags={}, model=model)


#: What a run of version 0.1.0 kept as its ``config.json``: every key, whatever the kind.
#: Keys that came after it was written.
NEWER = (
    "emulator",
    "tree",
    "again",
    "rate_mib_s",
    "definition",
    "kernel",
    "initrd",
    "cmdline",
    "resident",
)
OLD = {
    "update": {
        "kind": "sysctl",
        "expected_s": 5.0,
        "scope": None,
        "preserves_memory": True,
        "duration_s": 5.0,
        "command": [],
        "verify": [],
        "rollback": [],
        "packages": [],
        "repository": None,
        "previous": None,
        "hold": [],
        "reinstall": False,
        "simulate": False,
        "module": None,
        "action": "load",
        "parameters": [],
        "sysctl": ["vm.swappiness=10"],
    }
}


def test_an_old_runs_configuration_is_read_and_teaches(tmp_path):
    """By readers that do not know the kinds, and by those that do."""
    folder = a_run(tmp_path, 1, SYSCTL, (2.0, 0))
    (folder.path / "config.json").write_text(json.dumps(OLD))
    assert folder.config().update.kind == "sysctl"
    assert settings_of(folder.config().update) == SYSCTL.model_copy(update={"expected_s": 5.0})
    assert learn(tmp_path, SYSCTL).expected_s == 2.0


def test_a_stored_kind_that_is_wrong_teaches_nothing(tmp_path):
    """One that is not known any more, or has another type of value."""
    for section in ({"kind": "gone"}, {"kind": "sysctl", "sysctl": 5}):
        with pytest.raises(ConfigError, match=r"update\.(kind|sysctl): "):
            settings_of(UpdateSection(**section))
    folder = a_run(tmp_path, 1, SYSCTL, (2.0, 0))
    (folder.path / "config.json").write_text('{"update": {"kind": "gone"}}')
    assert learn(tmp_path, SYSCTL) is None


def test_what_tells_itself_how_long_it_takes_is_not_learnt(tmp_path):
    """A stand-in takes what it is told to take."""
    a_run(tmp_path, 1, StandInSettings(), (2.0, 0))
    assert learn(tmp_path, StandInSettings()) is None


def a_run(state_dir, number: int, section: UpdateSection, *updates: tuple[float, int | None]):
    """An earlier run: for each update domain how long the update took, and how it ended."""
    folder = RunFolder.create(state_dir, f"2026010{number}T000000Z-{number:06}")
    domains = tuple(
        UpdateDomainRecord(
            name=str(n), guests=(), outcome=Outcome.PASS, update_s=took_s, update_returncode=code
        )
        for n, (took_s, code) in enumerate(updates)
    )
    host = HostRecord(
        hostname="h", kernel="1", libvirt="1", hypervisor="q", cpu="c", accelerator="kvm"
    )
    record = RunRecord(
        run_id=folder.run_id,
        started_at=datetime(2026, 1, number, tzinfo=UTC),
        outcome=Outcome.PASS,
        exit_code=0,
        budget_s=30.0,
        host=host,
        update=UpdateRecord(kind=section.kind),
        update_domains=domains,
    )
    folder.write_config(FULL_CONFIG(update=section))
    folder.write_record(record)
    return folder


def test_the_longest_of_the_earlier_is_expected(tmp_path):
    """Of what succeeded, with the same settings; whatever was expected of it."""
    a_run(tmp_path, 1, SYSCTL, (2.0, 0), (1.0, 0))
    a_run(tmp_path, 2, SYSCTL.model_copy(update={"expected_s": 5.0}), (3.0, 0))
    a_run(tmp_path, 3, SYSCTL, (28.0, None))  # abandoned: it says nothing of one that succeeds
    a_run(tmp_path, 4, SYSCTL.model_copy(update={"sysctl": ("vm.swappiness=20",)}), (9.0, 0))
    learnt = learn(tmp_path, SYSCTL)
    assert (learnt.expected_s, learnt.count) == (3.0, 3)
    assert learnt.source == "the longest of 3 earlier"


def test_only_the_newest_count(tmp_path):
    """A host that has become faster is believed after a while."""
    a_run(tmp_path, 1, SYSCTL, (20.0, 0))
    a_run(tmp_path, 2, SYSCTL, *[(1.0 + n / 100, 0) for n in range(10)])
    assert learn(tmp_path, SYSCTL).expected_s == pytest.approx(1.09)


def test_what_cannot_be_read_teaches_nothing(tmp_path):
    """No run yet; a damaged record; a run without a configuration."""
    assert learn(tmp_path, SYSCTL) is None
    (a_run(tmp_path, 1, SYSCTL, (2.0, 0)).path / "run.json").write_text("{")
    (a_run(tmp_path, 2, SYSCTL, (2.0, 0)).path / "config.json").unlink()
    assert learn(tmp_path, SYSCTL) is None
    a_run(tmp_path, 3, SYSCTL, (2.0, 0))
    assert learn(tmp_path, SYSCTL).source == "one earlier run"
