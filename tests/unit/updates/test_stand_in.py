"""The stand-in update: really stages, switches, verifies and rolls back, in a temporary folder."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from harness.core.errors import ConfigError, HarnessError, UpdateFailed, UpdateOverran
from harness.core.settings import Scope, UpdateSection
from harness.core.timebase import Deadline, NotYet, Stopwatch, wait_for
from harness.updates.command import CommandSettings, CommandUpdate
from harness.updates.protocol import UpdateContext
from harness.updates.registry import make
from harness.updates.stand_in import CHUNK_BYTES, CHUNKS, StandInSettings, StandInUpdate

PATIENCE_S = 20.0


@pytest.fixture
def context(tmp_path):
    """An update domain whose state folder is temporary."""
    return UpdateContext("run-1", tmp_path / "run", "0", ("web1",), tmp_path, 30.0)


@pytest.fixture
def home(tmp_path):
    """Where the component lives."""
    return tmp_path / "stand-in"


def patience() -> Deadline:
    return Deadline.after(PATIENCE_S)


def stand_in(duration_s: float = 0.0) -> StandInUpdate:
    return StandInUpdate(StandInSettings(duration_s=duration_s))


def in_force(home) -> str | None:
    link = home / "current"
    return link.readlink().name if link.is_symlink() else None


def versions(home) -> list[str]:
    return sorted(path.name for path in (home / "versions").iterdir())


def apply_one(context) -> StandInUpdate:
    update = stand_in()
    update.prepare(context, patience())
    update.apply(context, patience())
    update.verify(context, patience())
    return update


def test_a_new_version_comes_into_force(context, home):
    """Nothing changes until apply has written everything; then one link says version 1."""
    update = stand_in()
    update.prepare(context, patience())
    assert in_force(home) is None
    update.apply(context, patience())
    assert in_force(home) == "1"
    assert (home / "current" / "payload").stat().st_size == CHUNKS * CHUNK_BYTES
    update.verify(context, patience())


def test_it_takes_the_time_it_was_told_to_take(context):
    """duration_s is how long apply lasts at least."""
    update = stand_in(0.3)
    update.prepare(context, patience())
    watch = Stopwatch()
    update.apply(context, patience())
    assert watch.elapsed_s() >= 0.3


def test_the_version_before_is_kept_and_older_ones_are_not(context, home):
    """Pruned are versions older than the one before, and what a dead run left half-way."""
    for _ in range(3):
        apply_one(context)
    assert versions(home) == ["2", "3"]
    stand_in().prepare(context, patience())  # version 4 is staged, and then the run dies
    apply_one(context)
    assert in_force(home) == "5"
    assert versions(home) == ["3", "5"]


def test_an_abandoned_update_leaves_the_old_version_in_force(context, home):
    """abandon ends a running apply at once; rollback removes what was staged."""
    apply_one(context)
    update = stand_in(duration_s=1000.0)
    update.prepare(context, patience())

    def something_written() -> None:
        payload = home / "versions" / "2" / "payload"
        if not payload.exists() or payload.stat().st_size == 0:
            raise NotYet("no payload yet")

    with ThreadPoolExecutor(1) as pool:
        applying = pool.submit(update.apply, context, Deadline.after(1000.0))
        wait_for(something_written, what="writing", deadline=patience(), interval_s=0.01)
        with pytest.raises(UpdateFailed, match="still being written"):
            update.rollback(context, Deadline.after(0.0))
        update.abandon()
        update.rollback(context, patience())
        with pytest.raises(UpdateFailed, match="abandoned"):
            applying.result(PATIENCE_S)
    assert in_force(home) == "1"
    assert versions(home) == ["1"]


def test_an_update_abandoned_before_it_began_changes_nothing(context, home):
    """The worker thread may come too late: after abandon, and after rollback even."""
    apply_one(context)
    update = stand_in()
    update.prepare(context, patience())
    update.abandon()
    with pytest.raises(UpdateFailed, match="abandoned"):
        update.apply(context, patience())
    update.rollback(context, patience())
    with pytest.raises(UpdateFailed):
        update.apply(context, patience())
    assert in_force(home) == "1"


def test_the_deadline_is_kept_by_apply_itself(context, home):
    """An update that would take longer than its deadline is UpdateOverran and not in force."""
    update = stand_in(duration_s=1000.0)
    update.prepare(context, patience())
    with pytest.raises(UpdateOverran, match=r"did not end within 0\.1 s"):
        update.apply(context, Deadline.after(0.1))
    assert in_force(home) is None
    update.rollback(context, patience())
    assert versions(home) == []


def test_the_same_update_serves_the_next_domain_after_an_abandonment(context, home):
    """prepare forgets that the update was abandoned before."""
    update = stand_in()
    update.prepare(context, patience())
    update.abandon()
    update.rollback(context, patience())
    update.prepare(context, patience())
    update.apply(context, patience())
    update.verify(context, patience())
    assert in_force(home) == "1"


def test_verify_finds_damage(context, home):
    """One flipped byte of what is in force is found."""
    update = apply_one(context)
    payload = home / "current" / "payload"
    content = bytearray(payload.read_bytes())
    content[12345] ^= 1
    payload.write_bytes(content)
    with pytest.raises(UpdateFailed, match="version 1 is damaged"):
        update.verify(context, patience())


def test_verify_finds_another_version_in_force(context, home):
    """Intact is not enough: it must be the version that was just applied."""
    apply_one(context)
    update = stand_in()
    update.prepare(context, patience())
    with pytest.raises(UpdateFailed, match="version 1 is in force, not the one just applied"):
        update.verify(context, patience())


def test_verify_finds_nothing_in_force(context, home):
    """A missing component is an error that says where it should be."""
    with pytest.raises(UpdateFailed, match=f"nothing in force in {home}"):
        stand_in().verify(context, patience())


@pytest.mark.parametrize("earlier", [0, 1])
def test_rollback_switches_back(context, home, earlier):
    """After the switch, rollback puts the version before in force, or none if there was none."""
    for _ in range(earlier):
        apply_one(context)
    update = apply_one(context)
    update.rollback(context, patience())
    assert in_force(home) == ("1" if earlier else None)
    assert versions(home) == ["1"][:earlier]
    update.rollback(context, patience())  # safe to repeat


def test_a_state_folder_that_cannot_be_used_fails_before_any_pause(context, home):
    """prepare finds out, and says why."""
    home.write_text("a file where a folder should be")
    with pytest.raises(UpdateFailed, match="cannot stage"):
        stand_in().prepare(context, patience())


def test_apply_needs_prepare(context):
    """Calling apply alone is an error, not a half-made version."""
    with pytest.raises(UpdateFailed, match="no version is staged"):
        stand_in().apply(context, patience())


def test_what_is_declared_is_what_the_plan_sees():
    """Scope guest, memory preserved, and a margin on top of the duration."""
    update = stand_in(5.0)
    assert (update.scope, update.preserves_memory) == (Scope.GUEST, True)
    assert 5.0 < update.expected_s <= 7.0
    assert StandInUpdate(StandInSettings(expected_s=2.5)).expected_s == 2.5


def test_kinds_are_made_by_name():
    """The registry knows both kinds and hands the settings on."""
    assert isinstance(make(UpdateSection()), StandInUpdate)
    made = make(CommandSettings(command=("true",)))
    assert isinstance(made, CommandUpdate)
    assert made.command == ("true",)


@pytest.mark.parametrize(
    ("kind", "hint"), [("comand", "did you mean 'command'"), ("x", "kinds: stand-in, command")]
)
def test_an_unknown_kind_names_the_nearest(kind, hint):
    """A misspelt kind is a configuration error with the nearest name, or all names."""
    with pytest.raises(ConfigError, match=f"update.kind: unknown kind '{kind}' .*{hint}") as caught:
        make(UpdateSection(kind=kind))
    assert isinstance(caught.value, HarnessError)
