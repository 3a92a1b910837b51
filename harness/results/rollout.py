"""This host's part of a rollout: ``<state dir>/rollouts/<ID>/``, by which one ID is one run.

``attempt.json`` says what was asked for and which run was to do it, before that run begins;
``answer.json`` what came of it. The process that carries it out holds a lock on ``lock``, so a part
that goes on is distinguished from one whose process is dead. The run's own journal says whether a
guest was paused: until then nothing was done, and the same ID may begin again.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from harness.core.errors import (
    ConfigError,
    GuestStranded,
    InfrastructureError,
    NotNow,
    RunDied,
    UsageError,
)
from harness.core.file_locks import hold, is_held
from harness.core.file_names import file_name
from harness.core.files import private_folder, write_atomically
from harness.core.records import RunRecord
from harness.core.timebase import SYSTEM_CLOCK, Clock
from harness.core.trust import refuse_untrusted
from harness.results.answer import ENDINGS, Answer, Ending, ErrorRecord
from harness.results.folder import RunFolder
from harness.results.in_progress import goes_on
from harness.results.journal import FILE_NAME, History, fold, read
from harness.results.unfinished import is_of_an_earlier_boot

FOLDER = "rollouts"
_ATTEMPT, _ANSWER, _LOCK = "attempt.json", "answer.json", "lock"
_LONGEST_ID = 200
_LOOK_S = 0.2
_WATCH = "harness status --watch"

M = TypeVar("M", bound=BaseModel)


class Asked(BaseModel):
    """The arguments of a command; one ID has one set of them."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    guests: tuple[str, ...] = ()
    settings: Mapping[str, Any] = {}
    """Dotted keys of harness.toml that were given as options."""
    config_file: Path | None = None
    not_before_ns: int = 0

    def differences(self, other: Asked) -> str:
        """Return in words what ``other`` asks for that this does not; "" if it is the same."""
        before, now = self._plain(), other._plain()
        return "; ".join(
            f"{key} was {_said(before.get(key))}, now {_said(now.get(key))}"
            for key in sorted({*before, *now})
            if before.get(key) != now.get(key)
        )

    def _plain(self) -> dict[str, Any]:
        known = {
            **self.settings,
            "guests": sorted(set(self.guests)) or None,
            "configuration": str(self.config_file) if self.config_file else None,
            "not_before_ns": self.not_before_ns or None,
        }
        return json.loads(json.dumps(known))  # type: ignore[no-any-return]  # tuples are lists


class Attempt(BaseModel):
    """One attempt to carry out this host's part; on the disk before it begins."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    rollout: str
    asked: Asked
    report: bool = True
    run_ids: tuple[str, ...] = ()
    """Its runs, one a window, each written down before it begins."""
    left: int = 0
    """So many windows were to follow that of the last run."""


def refuse_no_id(rollout: str) -> None:
    """Raise ConfigError for an ID that cannot be one."""
    if not rollout.strip() or not rollout.isprintable() or len(rollout) > _LONGEST_ID:
        raise ConfigError(
            f"invalid ID {rollout[:_LONGEST_ID]!r}",
            key="--rollout",
            hint=f"1 to {_LONGEST_ID} printable characters, e.g. kernel-2026-11",
        )


class RolloutFolder:
    """This host's part of one rollout."""

    def __init__(self, state_dir: Path, rollout: str) -> None:
        """Nothing is made yet. Raises ConfigError for an ID that cannot be one."""
        refuse_no_id(rollout)
        self.rollout = rollout
        self.state_dir = state_dir
        self.path = state_dir / FOLDER / file_name(rollout)

    @property
    def log(self) -> Path:
        """What a detached run says."""
        return self.path / "run.log"

    @contextmanager
    def locked(self) -> Iterator[int | None]:
        """Hold this part for the time of a ``with``; None: another process does.

        The descriptor may be handed down: the lock is held until the last copy is closed.
        Raises InfrastructureError, and ConfigError where another user can change the folder.
        """
        try:
            private_folder(self.path)
            refuse_untrusted(self.path)
            descriptor = os.open(
                self.path / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600
            )
        except OSError as error:
            raise InfrastructureError(
                f"cannot use {self.path}: {error.strerror}; nothing was paused",
                hint="point HARNESS_STATE_DIR at a folder you may write",
            ) from error
        try:
            yield descriptor if _taken(descriptor) else None
        finally:
            os.close(descriptor)

    def going_on(self, clock: Clock = SYSTEM_CLOCK) -> Iterator[None]:
        """Yield now and then while another process holds this part; end when none does.

        The kernel lets go of the lock when that process ends, however it ends.
        Raises InfrastructureError.
        """
        while self.goes_on():
            yield
            clock.sleep(_LOOK_S)

    def goes_on(self) -> bool:
        """Return True if another process holds this part now. Raises InfrastructureError."""
        try:
            with open(self.path / _LOCK, "rb") as file:
                return is_held(file.fileno())
        except FileNotFoundError:
            return False
        except OSError as error:
            raise InfrastructureError(f"cannot use {self.path}: {error.strerror}") from error

    def begin(self, attempt: Attempt) -> None:
        """Write down what is about to be done. Raises InfrastructureError."""
        try:
            (self.path / _ANSWER).unlink(missing_ok=True)
        except OSError as error:
            message = f"cannot change {self.path}: {error.strerror}; nothing was paused"
            raise InfrastructureError(message) from error
        write_atomically(self.path / _ATTEMPT, attempt.model_dump_json(indent=2) + "\n")

    def begin_run(self, attempt: Attempt, run_id: str, left: int) -> None:
        """Write down that a run of an attempt is about to begin. Raises InfrastructureError."""
        now = self.attempt() or attempt
        more = {"run_ids": (*now.run_ids, run_id), "left": left}
        changed = now.model_copy(update=more)
        write_atomically(self.path / _ATTEMPT, changed.model_dump_json(indent=2) + "\n")

    def finish(self, answer: Answer) -> None:
        """Write down what came of it. Raises InfrastructureError."""
        write_atomically(self.path / _ANSWER, answer.model_dump_json(indent=2) + "\n")

    def attempt(self) -> Attempt | None:
        """Return the last attempt; None if there was none. Raises InfrastructureError."""
        return _parsed(self.path / _ATTEMPT, Attempt)

    def answer(self) -> Answer | None:
        """Return what came of the last attempt, with the last run's record as it is now.

        ``harness recover`` may have completed that record since. None: nothing was written.
        Raises InfrastructureError.
        """
        found, attempt = _parsed(self.path / _ANSWER, Answer), self.attempt()
        if attempt is None:
            return found
        record = self.record()
        if found is None:
            by_design = self._left_its_kernel()
            return None if record is None else _of_the_dead(attempt, record, by_design)
        return _as_it_is_now(found, record or found.record)

    def done(self, asked: Asked) -> Answer | None:
        """Return the answer if a guest was paused for this ID; None if it may begin.

        For the holder of the lock.

        Raises:
            RunDied: A run began and is neither over nor recovered.
            NotNow: It goes on all the same, without the lock.
            UsageError: It was begun with other arguments.
            InfrastructureError: What is known of it cannot be read.
        """
        if self.attempt() is None:
            return None
        runs = self._begun()
        if not runs:
            kept = self.answer()  # of runs whose folders were cleared away
            return kept if kept is not None and paused_a_guest(kept.record) else None
        histories = [fold(read(run.path / FILE_NAME)) for run in runs]
        over = histories[-1].ended or (self.path / _ANSWER).exists()
        if over and not any(history.guests for history in histories):
            return None
        self.expect_same(asked)
        if goes_on(runs[-1]):
            raise NotNow(f"run {runs[-1].run_id} of rollout {self.rollout} goes on", hint=_WATCH)
        if not over:
            raise self._died(runs[-1], histories[-1])
        return self.answer()

    def is_done(self) -> bool:
        """Return True if the last attempt is over and paused a guest: it is never begun again.

        Raises InfrastructureError.
        """
        found = self.answer()
        return found is not None and (self.paused_a_guest() or paused_a_guest(found.record))

    def record(self) -> RunRecord | None:
        """Return the record of the last run of the last attempt that has one."""
        for run in reversed(self._last_runs()):
            try:
                return run.record()
            except UsageError:
                continue
        return None

    def last_run(self) -> RunFolder | None:
        """Return the run that the last attempt began last; None if there is none."""
        runs = self._last_runs()
        return runs[-1] if runs else None

    def handed_over(self) -> RunFolder | None:
        """Return the last run if its kernel was left, and this boot is still at work on it.

        A process that has written the run's last entry and still makes the report is at work, too.
        Raises JournalError.
        """
        run = next(iter(reversed(self._begun())), None)
        if run is None:
            return None
        history = fold(read(run.path / FILE_NAME))
        if not is_of_an_earlier_boot(history) or (history.ended and not goes_on(run)):
            return None
        return run

    def _left_its_kernel(self) -> bool:
        """Return True if the last run ended with its kernel, as it was to."""
        runs = self._begun()
        return bool(runs) and fold(read(runs[-1].path / FILE_NAME)).left is not None

    def paused_a_guest(self) -> bool:
        """Return True if a run of the last attempt paused a guest, or may have."""
        return any(fold(read(run.path / FILE_NAME)).guests for run in self._begun())

    def expect_same(self, asked: Asked) -> None:
        """Raise UsageError where the last attempt had other arguments."""
        attempt = self.attempt()
        differs = attempt.asked.differences(asked) if attempt is not None else ""
        if differs:
            raise UsageError(
                f"rollout {self.rollout} was begun with other arguments: {differs}",
                hint="another maintenance has an ID of its own",
            )

    def _died(self, run: RunFolder, history: History) -> RunDied:
        if is_of_an_earlier_boot(history):
            return RunDied(
                f"run {run.run_id} of rollout {self.rollout} was handed over to another kernel, "
                "and this boot of the host has not finished it; nothing was started",
                hint="journalctl -u harness-complete.service; then harness recover",
            )
        names = ", ".join(guest.member.name for guest in history.guests.values() if guest.held)
        paused = f"{names} may be paused (not checked)" if names else "no guest is held"
        return RunDied(
            f"run {run.run_id} of rollout {self.rollout} died before its end; {paused}; "
            "nothing was started",
            hint="harness recover",
        )

    def _last_runs(self) -> list[RunFolder]:
        """Those of the last attempt, begun or not."""
        attempt = self.attempt()
        run_ids = attempt.run_ids if attempt is not None else ()
        return [RunFolder(self.state_dir / "runs" / run_id) for run_id in run_ids]

    def _begun(self) -> list[RunFolder]:
        """Those of them that have a journal."""
        return [run for run in self._last_runs() if (run.path / FILE_NAME).exists()]


def paused_a_guest(record: RunRecord | None) -> bool:
    """Return True if a guest of the run was paused, or may have been."""
    return record is not None and any(
        guest.pause_window_s is not None or guest.still_paused for guest in record.guests
    )


def _of_the_dead(attempt: Attempt, record: RunRecord, by_design: bool) -> Answer | None:
    """Return the answer of a process that died, by the record that is complete now.

    ``by_design``: it ended with its kernel, and the next one has finished the run.
    """
    if record.finished_at is None:
        return None
    said, code = "the run's process died; its record is complete", record.exit_code
    if by_design and not attempt.left:
        ending = ENDINGS.get(code, Ending.ERROR)
        return Answer(rollout=attempt.rollout, outcome=ending, exit_code=code, record=record)
    if attempt.left:
        said = f"the process died with windows left: {attempt.left}; updates of earlier ones stay"
        code = code or RunDied.exit_code
    return Answer(
        rollout=attempt.rollout,
        outcome=ENDINGS.get(code, Ending.ERROR),
        exit_code=code,
        error=ErrorRecord.of(RunDied(said, hint="harness report")),
        record=record,
    )


def _as_it_is_now(answer: Answer, record: RunRecord | None) -> Answer:
    """Return the answer with the record of today: no guest is reported as paused that is not."""
    if record is None or not record.guests:
        return answer.model_copy(update={"record": record})
    relieved = not any(guest.still_paused for guest in record.guests)
    if answer.exit_code != GuestStranded.exit_code or not relieved:
        return answer.model_copy(update={"record": record})
    since = InfrastructureError(
        "guests were still paused when the run ended; they were brought back since"
    )
    return answer.model_copy(
        update={
            "record": record,
            "outcome": Ending.ERROR,
            "exit_code": since.exit_code,
            "error": ErrorRecord.of(since),
        }
    )


def _taken(descriptor: int) -> bool:
    try:
        hold(descriptor)
    except BlockingIOError:
        return False
    return True


def _said(value: Any) -> str:
    if value is None:
        return "not given"
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)


def _parsed(file: Path, model: type[M]) -> M | None:
    try:
        return model.model_validate_json(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValidationError) as error:
        why = getattr(error, "strerror", None) or "it is not what harness writes there"
        raise InfrastructureError(
            f"cannot read {file}: {why}", hint="look at it, then remove it; or use another ID"
        ) from error
