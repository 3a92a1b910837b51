"""What is known of one rollout on one host, from what was left on the disk."""

from __future__ import annotations

import json

import jsonschema
import pytest

from harness.core.errors import (
    ConfigError,
    GuestStranded,
    HarnessError,
    HostBusy,
    InfrastructureError,
    NotNeeded,
    PlanError,
    RunDied,
    UsageError,
    WindowClosed,
    rollout_exit_code,
    together,
)
from harness.core.records import RunRecord
from harness.results.answer import ENDINGS, Answer, ErrorRecord, schema_of_answer, schema_of_run
from harness.results.rollout import Asked, Attempt, RolloutFolder
from harness.testing.runs import a_guest, a_journal, a_run

ASKED = Asked(guests=("web1", "web2"), settings={"budget_s": 30.0, "update.command": ["./x", "-y"]})


def leave(
    folder: RolloutFolder, record: RunRecord, until: str | None = None, left: int = 0
) -> None:
    """A run of this rollout, as far as the journal's line ``until``."""
    with folder.locked():
        attempt = Attempt(rollout=folder.rollout, asked=ASKED)
        folder.begin(attempt)
        folder.begin_run(attempt, record.run_id, left)
    run = folder.state_dir / "runs" / record.run_id
    run.mkdir(parents=True)
    lines = a_journal(record)
    if until is not None:
        known = [line["event"] for line in lines]
        lines = lines[: known.index(until) + 1]
        record = record.model_copy(update={"finished_at": None})
    (run / "journal.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (run / "run.json").write_text(record.model_dump_json())


@pytest.fixture
def folder(tmp_path) -> RolloutFolder:
    return RolloutFolder(tmp_path, "r/1")


def test_the_same_arguments_are_the_same_however_they_are_written(folder):
    """Order of guests, tuples for lists; anything else is named with both values."""
    leave(folder, a_run())
    same = Asked(
        guests=("web2", "web1"), settings={"update.command": ("./x", "-y"), "budget_s": 30}
    )
    folder.expect_same(same)
    other = Asked(guests=("web1",), settings={**ASKED.settings, "soak_s": 1.0})
    with pytest.raises(UsageError) as refused:
        folder.expect_same(other)
    assert "guests was web1 web2, now web1" in refused.value.message
    assert "soak_s was not given, now 1.0" in refused.value.message


def test_a_run_that_is_over_is_the_answer_also_if_nobody_wrote_one(folder):
    """The process was killed between the end of its run and its answer."""
    record = a_run()
    leave(folder, record)
    found = folder.done(ASKED)
    assert found is not None
    assert (found.exit_code, found.record) == (0, record)
    with pytest.raises(UsageError):
        folder.done(Asked())


def test_a_process_that_died_between_two_windows_has_not_done_all(folder):
    """The first window's run passed; the answer is no pass."""
    leave(folder, a_run(), left=1)
    found = folder.done(ASKED)
    assert found is not None
    assert (found.exit_code, found.outcome) == (3, ENDINGS[3])
    assert found.error is not None
    assert "windows left: 1;" in found.error.message


def test_a_dead_run_is_never_begun_again(folder):
    """Whether it had paused somebody or not."""
    for number, line in enumerate(("run started", "pausing", "paused", "resumed")):
        leave(folder, a_run(run_id=f"run-{number}"), until=line)
        with pytest.raises(RunDied) as refused:
            folder.done(ASKED)
        assert refused.value.hint == "harness recover"
        assert ("web1 may be paused" in refused.value.message) == (line in ("pausing", "paused"))


def test_a_run_that_paused_nobody_binds_nothing(folder):
    """A login that failed: other arguments are as good."""
    record = a_run()
    leave(folder, record)
    journal = folder.state_dir / "runs" / record.run_id / "journal.jsonl"
    lines = [line for line in journal.read_text().splitlines() if "uuid" not in line]
    journal.write_text("\n".join(lines) + "\n")
    assert folder.done(Asked()) is None


def test_a_run_whose_folder_was_cleared_away_was_done_all_the_same(folder):
    """The answer keeps the record."""
    with folder.locked():
        folder.begin(Attempt(rollout="r/1", asked=ASKED, run_ids=("gone",)))
        folder.finish(Answer(rollout="r/1", outcome=ENDINGS[0], exit_code=0, record=a_run()))
    found = folder.done(ASKED)
    assert found is not None
    assert found.record == a_run()


def test_a_guest_that_was_brought_back_is_not_said_to_be_paused(folder):
    """``recover`` has relieved the record since."""
    stuck = a_guest().model_copy(update={"still_paused": True})
    error = GuestStranded(["web1"])
    answer = Answer(rollout="r/1", outcome=ENDINGS[4], exit_code=4, error=ErrorRecord.of(error))
    for guest, code in ((stuck, 4), (a_guest(), 3)):
        leave(folder, a_run(guest, run_id=f"run-{code}"))
        folder.finish(answer)
        found = folder.done(ASKED)
        assert found is not None
        assert (found.exit_code, found.outcome) == (code, ENDINGS[code])


@pytest.mark.parametrize("rollout", ["", "  ", "a\nb", "x" * 201, "\x1b[2J"])
def test_what_is_no_id_is_refused(tmp_path, rollout):
    """Nothing is made for it."""
    with pytest.raises(ConfigError, match="--rollout"):
        RolloutFolder(tmp_path, rollout)


@pytest.mark.parametrize("rollout", ["..", "../../x", "ä/ö", "$(id)"])
def test_an_id_is_data(tmp_path, rollout):
    """It names a folder below the rollouts and no other."""
    folder = RolloutFolder(tmp_path, rollout)
    with folder.locked():
        assert folder.path.parent == tmp_path / "rollouts"
        assert folder.path.is_dir()


def test_only_one_holds_a_part(folder):
    """And who looks on sees that one goes on until it does no longer."""
    with folder.locked() as ours:
        assert ours is not None
        with RolloutFolder(folder.state_dir, folder.rollout).locked() as theirs:
            assert theirs is None
        looks = folder.going_on()
        next(looks)
    assert list(looks) == []


def test_what_cannot_be_read_is_said(folder):
    """It is not taken for a part that was never begun."""
    with folder.locked():
        (folder.path / "attempt.json").write_text("{}")
    with pytest.raises(InfrastructureError, match="attempt.json"):
        folder.done(ASKED)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (HostBusy("taken"), 5),
        (WindowClosed("closed"), 5),
        (NotNeeded("so already"), 6),
        (PlanError("unsafe"), 2),
        (together({"a": NotNeeded("so", guest="a"), "b": NotNeeded("so", guest="b")}), 6),
        (together({"a": NotNeeded("so", guest="a"), "b": PlanError("no", guest="b")}), 2),
        (GuestStranded(["a"]), 4),
    ],
    ids=str,
)
def test_not_now_and_not_needed_have_codes_of_their_own(error: HarnessError, code):
    """Of several guests all must be refused for that reason."""
    assert rollout_exit_code(error) == code
    answer = Answer.refusal("r", error)
    assert (answer.exit_code, answer.outcome) == (code, ENDINGS[code])


@pytest.mark.parametrize("schema", [schema_of_run(), schema_of_answer()], ids=["run", "answer"])
def test_the_schemas_are_schemas_and_take_what_a_later_version_adds(schema):
    """Every field of ours that has words has them there."""
    jsonschema.Draft202012Validator.check_schema(schema)
    record = {**json.loads(a_run().model_dump_json()), "added_later": 1}
    answer = {"rollout": "r", "outcome": "pass", "exit_code": 0, "record": record, "later": [2]}
    jsonschema.validate(record if "run_id" in schema["properties"] else answer, schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({}, schema)


def test_the_folders_are_private(folder: RolloutFolder):
    """A record names guests and hosts."""
    leave(folder, a_run())
    files = [folder.path, *folder.path.iterdir()]
    assert [oct(path.stat().st_mode & 0o077) for path in files] == ["0o0"] * len(files)
