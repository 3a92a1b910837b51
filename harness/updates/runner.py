"""The programs of one update: run one after another, abandoned together.

``apply`` runs in a thread of its own and ``abandon`` comes from another one, so the two may cross:
what is abandoned before it starts is not started, and what is abandoned while it starts is ended.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from harness.core.errors import UpdateFailed, UpdateOverran
from harness.core.timebase import Deadline
from harness.host.child_process import StatusLost, UpdateProcess
from harness.updates.protocol import UpdateContext

_MARKS = {"update": "apply"}


class Runner:
    """Runs programs without a shell; each leaves its output in the run folder."""

    def __init__(self) -> None:
        self._running: UpdateProcess | None = None
        self._abandoned = False

    def reset(self) -> None:
        """Forget the update domain before."""
        self._running, self._abandoned = None, False

    def run(
        self,
        stage: str,
        command: Sequence[str],
        context: UpdateContext,
        deadline: Deadline,
        extra: Mapping[str, str] | None = None,
    ) -> Path:
        """Run ``command`` until it ends; where its output is.

        ``stage`` (``update``, ``verify``, ``rollback``) names the output's file, to whose end it is
        written. ``extra`` is added to its environment. Raises UpdateFailed if it cannot be started
        or does not succeed. If its time passes first that is UpdateOverran for an update, which
        waits for ``abandon`` to be ended; anything else is ended, and that is UpdateFailed.
        """
        if stage == "update":
            self.check_abandoned(f"{command[0]} was started")
        output = context.output(stage)
        try:
            returncode = self._returncode(stage, command, context, deadline, output, extra or {})
        except StatusLost as error:
            raise UpdateFailed(
                f"{command[0]} ended, but how is not known: SIGCHLD is ignored, or another part of "
                "this program waits for its children",
                hint=f"its output is in {output}",
            ) from error
        if returncode is None:
            self._overran(stage, command, deadline)
        elif returncode != 0:
            _fail(command, returncode, output)
        return output

    @property
    def abandoned(self) -> bool:
        """Whether nothing of the update is to be started any more."""
        return self._abandoned

    def check_abandoned(self, what: str) -> None:
        """Raises UpdateFailed if the update was abandoned; ``what`` was not done then."""
        if self._abandoned:
            raise UpdateFailed(f"the update was abandoned before {what}")

    def abandon(self) -> None:
        """End what runs and all it started, and start nothing more of the update."""
        self._abandoned = True
        if self._running is not None:
            self._running.end()

    def settle(self, deadline: Deadline) -> None:
        """End what is left of the update and wait until it is gone.

        Nothing may be rolled back under it. Raises UpdateFailed naming the pids of what cannot be
        ended.
        """
        if self._running is None:
            return
        self._running.end()
        if survivors := self._running.survivors(deadline):
            pids = ", ".join(str(pid) for pid in sorted(survivors))
            raise UpdateFailed(
                f"processes of {self._running.program} could not be ended, so nothing was rolled "
                f"back: {pids}",
                hint="end them by hand, then undo what the update did",
            )

    def _overran(self, stage: str, command: Sequence[str], deadline: Deadline) -> None:
        if stage != "update":
            raise UpdateFailed(f"{stage} command {command[0]} did not end in time")
        self._abandoned = True
        raise UpdateOverran(
            f"{command[0]} did not end within {deadline.limit_s:.1f} s and was ended",
            hint="give it a larger --budget, or make it faster",
        )

    def _returncode(
        self,
        stage: str,
        command: Sequence[str],
        context: UpdateContext,
        deadline: Deadline,
        output: Path,
        extra: Mapping[str, str],
    ) -> int | None:
        """Start it and wait; None: the time has passed, and it is being ended."""
        process = self._start(stage, command, context, deadline, output, extra)
        if stage == "update" and self._abandoned:  # since we looked, when there was nothing to end
            process.end()
        returncode = process.wait(deadline)
        if returncode is None and stage != "update":  # else ended when the guests run, by `abandon`
            process.end()
        return returncode

    def _start(
        self,
        stage: str,
        command: Sequence[str],
        context: UpdateContext,
        deadline: Deadline,
        output: Path,
        extra: Mapping[str, str],
    ) -> UpdateProcess:
        environment = {**_environment(context, deadline), **extra}
        mark = context.mark(_MARKS.get(stage, stage))
        try:
            self._running = UpdateProcess(command, environment, mark, output)
        except OSError as error:
            raise UpdateFailed(f"cannot start {command[0]}: {error.strerror}") from error
        return self._running


def _environment(context: UpdateContext, deadline: Deadline) -> dict[str, str]:
    return {
        **os.environ,
        "HARNESS_RUN_ID": context.run_id,
        "HARNESS_RUN_DIR": str(context.run_dir),
        "HARNESS_UPDATE_DOMAIN": context.update_domain,
        "HARNESS_GUESTS": json.dumps(context.guests),  # names are data: no separator is safe
        "HARNESS_BUDGET_S": f"{context.budget_s:g}",
        "HARNESS_DEADLINE_S": f"{deadline.remaining_s():.3f}",
    }


def _fail(command: Sequence[str], returncode: int, output: Path) -> None:
    how = f"ended with status {returncode}" if returncode > 0 else f"died of signal {-returncode}"
    raise UpdateFailed(
        f"{command[0]} {how}", returncode=returncode, hint=f"its output is in {output}"
    )
