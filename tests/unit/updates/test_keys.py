"""Keys of ``[update]`` beside the wrong kind, and what earlier runs teach."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from harness.core.config import load
from harness.core.errors import ConfigError
from harness.core.records import (
    HostRecord,
    Outcome,
    RunRecord,
    UpdateDomainRecord,
    UpdateRecord,
)
from harness.core.settings import KEYS_OF_KIND, Config, UpdateSection, UpdateSettings
from harness.results.folder import RunFolder
from harness.updates.expected import learn
from harness.updates.registry import KINDS

SYSCTL = UpdateSection(kind="sysctl", sysctl=("vm.swappiness=10",))


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
        ('kind = "sysctl"\nsysctl = "a=1"', "update.sysctl: Input should be"),
        ('kind = "sysctl"\nsysctls = ["a=1"]', "update.sysctls: unknown key .*'sysctl'"),
        ('kind = "kernel-module"\naction = "remove"', "update.action: Input should be 'load'"),
    ],
)
def test_a_key_that_is_misplaced_or_wrong_names_file_and_key(toml, text, words):
    """What would be ignored is a mistake."""
    file = toml(text)
    with pytest.raises(ConfigError, match=f"{file}: {words}") as caught:
        load(file, environment={}, flags={})
    assert caught.value.exit_code == 2


def test_another_kind_at_the_command_line_leaves_the_files_keys_out(toml):
    """Any configuration can be rehearsed; what is for all kinds stays."""
    file = toml('kind = "sysctl"\nsysctl = ["a=1"]\nscope = "host"')
    update = load(file, environment={}, flags={"update.kind": "stand-in"}).config.update
    assert (update.kind, update.sysctl, update.scope) == ("stand-in", (), "host")
    update = load(file, environment={"HARNESS_UPDATE_KIND": "stand-in"}, flags={}).config.update
    assert update.sysctl == ()


def test_a_stronger_key_beside_a_weaker_kind_is_a_mistake(toml):
    """Whoever says --duration means a stand-in, and the file says otherwise."""
    file = toml('kind = "sysctl"\nsysctl = ["a=1"]')
    with pytest.raises(ConfigError, match="flag: update.duration_s: belongs to kind stand-in"):
        load(file, environment={}, flags={"update.duration_s": 3.0})


def test_every_key_has_a_place():
    """A kind without keys, a key that does not exist or a setting that gets lost: none of them."""
    everybodys = {"kind", "expected_s", "scope", "preserves_memory"}
    assert set(KEYS_OF_KIND) == set(KINDS)
    assert set().union(*KEYS_OF_KIND.values()) | everybodys == set(UpdateSection.model_fields)
    assert set(UpdateSection.model_fields) <= set(UpdateSettings.__dataclass_fields__)
    for name, field in UpdateSection.model_fields.items():
        assert field.default == getattr(UpdateSettings(), name)


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
    folder.write_config(Config(update=section))
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
