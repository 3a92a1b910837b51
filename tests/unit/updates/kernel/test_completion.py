"""The unit that finishes a run after the boot: written for one handover, taken away after it."""

from __future__ import annotations

from pathlib import Path

from harness.updates.kernel import completion

PLAN = Path("/var/lib/harness/handover")


def test_the_unit_waits_for_the_plan_and_finishes_what_is_in_its_state_folder(tmp_path):
    """By `harness recover`, as a person would; names are data."""
    completion.write(PLAN, tmp_path / "50% state", tmp_path)
    lines = (tmp_path / completion.NAME).read_text().splitlines()
    assert f"ConditionPathExists={PLAN}" in lines
    assert f'Environment="HARNESS_STATE_DIR={tmp_path}/50%% state"' in lines
    assert "Restart=on-failure" in lines  # a guest that could not be brought back in time waits
    assert lines.index("StartLimitBurst=5") < lines.index("[Service]")  # but not for ever
    (command,) = [line for line in lines if line.startswith("ExecStart=")]
    assert command.endswith("-P -m harness recover")


def test_the_next_boot_starts_it_and_later_ones_do_not(tmp_path):
    """Written twice, it is one; taken away twice, it is gone."""
    wanted = tmp_path / "multi-user.target.wants" / completion.NAME
    completion.write(PLAN, tmp_path, tmp_path)
    completion.write(PLAN, tmp_path, tmp_path)
    assert wanted.resolve() == (tmp_path / completion.NAME).resolve()
    completion.forget(tmp_path)
    completion.forget(tmp_path)
    assert [one for one in tmp_path.rglob("*") if not one.is_dir()] == []
