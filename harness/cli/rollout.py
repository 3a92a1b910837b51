"""``harness run --rollout``: one ID is one run, however often the command is given.

What is detached is carried out by a process in a session of its own; the command waits for it as
any later one does, so that a lost terminal costs nothing but the waiting.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from harness.cli.commands.common import load_config, out, print_json, say, spoken
from harness.cli.commands.refusals import Spoken
from harness.cli.commands.run import carry_out, conclude
from harness.core.background import start_in_background
from harness.core.config import Loaded
from harness.core.errors import (
    HarnessError,
    InfrastructureError,
    RunDied,
    rollout_exit_code,
)
from harness.core.files import last_lines
from harness.core.process_state import python_module, settle_process
from harness.core.spare_memory import share_one_heap
from harness.core.timebase import NS_PER_S, SYSTEM_CLOCK, Deadline
from harness.fleet.followed import Followed, followed
from harness.maintenance.run import Finished, Part
from harness.results.answer import ENDINGS, Answer, ErrorRecord
from harness.results.in_progress import goes_on, look
from harness.results.report.table import print_run
from harness.results.rollout import Asked, Attempt, RolloutFolder, paused_a_guest

#: For the next kernel to finish a run that was handed over to it, from its boot on.
_NEXT_KERNEL_S = 900.0
_LOOK_S = 0.5


def begin_or_find(
    folder: RolloutFolder, asked: Asked, loaded: Loaded, *, report: bool, detach: bool
) -> Answer:
    """Carry out this host's part of a rollout, or wait for it, or find it done.

    Args:
        folder: Where the part is kept.
        asked: The arguments, which must be those of an earlier command for this ID.
        loaded: The configuration in force.
        report: Make the report and the entry in the history.
        detach: Carry it out in a process that outlives this one and its terminal.

    Raises:
        RunDied: A run for this ID died; nothing was started.
        HarnessError: What fails before a guest is paused.
    """
    waited = False
    while True:
        with folder.locked() as lock:
            if lock is not None:
                found = folder.answer() if waited else None
                if found is not None:
                    return found
                finished_now = _await_next_kernel(folder, asked)
                done = _done(folder, asked, loaded)
                if done is not None:
                    return done.model_copy(update={"already": not finished_now})
                if waited:
                    raise _ended_in_silence(folder)
                attempt = Attempt(rollout=folder.rollout, asked=asked, report=report)
                folder.begin(attempt)
                if not detach:
                    return _carried_out(folder, attempt, loaded)
                _start(folder, lock)
            else:
                folder.expect_same(asked)
        _wait(folder)
        waited = True


def _await_next_kernel(folder: RolloutFolder, asked: Asked) -> bool:
    """Wait for this boot to finish a run that was handed over to it; True: it has, by now.

    The part stays locked for that time: to every other command it goes on.
    """
    run = folder.handed_over()
    if run is None:
        return False
    folder.expect_same(asked)
    say(f"rollout {folder.rollout} goes on: this boot of the host finishes run {run.run_id}")
    since_boot_s = SYSTEM_CLOCK.boottime_ns() / NS_PER_S
    deadline = Deadline.after(max(0.0, _NEXT_KERNEL_S - since_boot_s))
    try:
        while folder.handed_over() is not None:
            if deadline.expired and not goes_on(run):  # `harness recover` has limits of its own
                return False
            SYSTEM_CLOCK.sleep(_LOOK_S)
    except KeyboardInterrupt as error:
        raise _interrupted(folder) from error
    return True


def _interrupted(folder: RolloutFolder) -> InfrastructureError:
    return InfrastructureError(
        f"this command was interrupted; rollout {folder.rollout} goes on without it",
        hint="the same command waits for it again; harness status",
    )


def _done(folder: RolloutFolder, asked: Asked, loaded: Loaded) -> Answer | None:
    """As ``RolloutFolder.done``; the fleet's database gets what it may not know yet."""
    try:
        done = folder.done(asked)
    except RunDied as error:
        _told(_followed(folder, loaded).died, error)
        raise
    if done is not None:
        _told(_followed(folder, loaded).ended, done, known=True)
    return done


def _carried_out(folder: RolloutFolder, attempt: Attempt, loaded: Loaded) -> Answer:
    """Carry out the part whose lock is held; what came of it is kept, refusals too."""
    asked, told = attempt.asked, _followed(folder, loaded)

    def begin(run_id: str, left: int) -> None:
        folder.begin_run(attempt, run_id, left)
        told.run_begins(run_id)

    told.begins(max(0.0, (asked.not_before_ns - SYSTEM_CLOCK.realtime_ns()) / NS_PER_S))
    try:
        finished = carry_out(
            loaded,
            asked.guests,
            not_before_ns=asked.not_before_ns,
            part=Part(folder.rollout, begin, around=told.around),
            show=False,
            report=attempt.report,
        )
    except HarnessError as error:
        answer = _refused(folder, error)
        _told(told.ended, answer)
        return answer
    answer = _answer(folder.rollout, finished)
    _keep(folder, answer)
    _told(told.ended, answer)
    conclude(finished, config=loaded.config, show=False, report=attempt.report)
    return answer


def _followed(folder: RolloutFolder, loaded: Loaded) -> Followed:
    """Return what writes to the fleet's database; that it cannot be written to is a warning."""

    def warn(line: str) -> None:
        with spoken():
            say(f"warning: {line}")

    return followed(loaded.config, folder.rollout, warn)


def _told(tell: Callable[..., None], *what: Any, **how: Any) -> None:
    """Tell the fleet's database of what is over: nothing that fails here changes that."""
    with spoken():
        tell(*what, **how)


def _refused(folder: RolloutFolder, error: HarnessError) -> Answer:
    """Return the answer of what failed before its run, or before one of a later window."""
    answer = Answer.refusal(folder.rollout, error)
    if folder.paused_a_guest():
        code = error.exit_code
        held = {"exit_code": code, "outcome": ENDINGS[code], "record": folder.record()}
        answer = answer.model_copy(update=held)
    _keep(folder, answer)
    return answer


def _answer(rollout: str, finished: Finished) -> Answer:
    record, error = finished.record, finished.error
    code = record.exit_code
    if error is not None and not paused_a_guest(record):
        code = rollout_exit_code(error)
    return Answer(
        rollout=rollout,
        outcome=ENDINGS[code],
        exit_code=code,
        error=ErrorRecord.of(error) if error is not None else None,
        record=record,
    )


def _keep(folder: RolloutFolder, answer: Answer) -> None:
    """A disk that is full changes nothing about the result: the run's record tells it again."""
    try:
        folder.finish(answer)
    except HarnessError as error:
        with spoken():
            say(f"warning: {error}")


def _start(folder: RolloutFolder, lock: int) -> None:
    """Start the process that carries it out, which takes over the lock. Raises."""
    words = (str(lock), str(folder.state_dir), folder.rollout)
    try:
        command = python_module("harness.cli.rollout", *words)
        start_in_background(command, folder.log, append=False, keep=[lock])
    except OSError as error:
        raise InfrastructureError(f"cannot start a run: {error.strerror}") from error


def _wait(folder: RolloutFolder) -> None:
    """Wait until no process carries it out, and say what goes on. Raises InfrastructureError."""
    told = ""
    try:
        for _ in folder.going_on():
            now = _goes_on(folder)
            if now != told:
                say(now)
            told = now
    except KeyboardInterrupt as error:
        raise _interrupted(folder) from error


def _goes_on(folder: RolloutFolder) -> str:
    said = f"rollout {folder.rollout} goes on"
    try:
        run = folder.last_run()
        now = look(run) if run is not None else None
    except HarnessError:  # no journal yet
        return said
    if now is None or not now.pid:  # its journal is empty still
        return said
    said = f"{said}: run {now.folder.run_id} of {now.user} (pid {now.pid})"
    domain = f", update domain {now.domain}" if now.domain else ""
    held = f", paused: {', '.join(guest.name for guest in now.held)}" if now.held else ""
    return f"{said}{domain}{held}"


def _ended_in_silence(folder: RolloutFolder) -> InfrastructureError:
    last = last_lines(folder.log)
    return InfrastructureError(
        f"what carried out rollout {folder.rollout} ended before a run began"
        + (f": {last}" if last else ""),
        hint="the same command begins it again",
    )


def tell(answer: Answer, folder: RolloutFolder, *, as_json: bool) -> int:
    """Print an answer, as a table or as JSON; return its exit code."""
    record = answer.record
    with spoken():
        if as_json:
            print_json(answer.model_dump(mode="json"))
        elif record is not None and record.guests:
            print_run(record, out(), folder.state_dir / "runs" / record.run_id)
        if answer.already and record is not None:
            say(
                f"rollout {folder.rollout} is done already: run {record.run_id}, "
                f"{answer.outcome}; nothing was paused by this command"
            )
        if answer.error is not None:
            guest = f"{answer.error.guest}: " if answer.error.guest else ""
            hint = f" (hint: {answer.error.hint})" if answer.error.hint else ""
            say(f"harness: {guest}{answer.error.message}{hint}")
    return answer.exit_code


def main(lock: str, state_dir: str, rollout: str) -> None:
    """What the process of a detached run does; it holds the lock ``lock`` until it ends."""
    settle_process()
    share_one_heap()
    os.set_inheritable(int(lock), False)
    from harness.cli.main import exit_code

    Spoken.rollout = rollout
    code = exit_code(partial(_in_background, RolloutFolder(Path(state_dir), rollout)))
    os._exit(code)  # as the command line ends: a thread may still be inside libvirt


def _in_background(folder: RolloutFolder) -> int:
    attempt = folder.attempt()
    if attempt is None:
        raise InfrastructureError(f"{folder.path} does not say what is to be done")
    loaded = load_config(attempt.asked.config_file, attempt.asked.settings)
    return tell(_carried_out(folder, attempt, loaded), folder, as_json=False)


if __name__ == "__main__":
    main(*sys.argv[1:])
