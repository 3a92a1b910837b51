"""What ``--rollout`` has a command say: one JSON document for every outcome, and its JSON schema.

Other programs read it; names are fixed: add freely, rename never.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

from pydantic import BaseModel

from harness.core.errors import NOT_NEEDED, NOT_NOW, HarnessError, rollout_exit_code
from harness.core.explained import explain_models
from harness.core.records import Record, RunRecord

SCHEMA_VERSION = 1
_DIALECT = "https://json-schema.org/draft/2020-12/schema"


class Ending(StrEnum):
    """How a command under a rollout ended, as its exit code says."""

    PASS = "pass"
    FAIL = "fail"
    REFUSED = "refused"
    ERROR = "error"
    PAUSED = "paused"
    NOT_NOW = "not-now"
    NOT_NEEDED = "not-needed"
    INTERRUPTED = "interrupted"


ENDINGS: Mapping[int, Ending] = {
    0: Ending.PASS,
    1: Ending.FAIL,
    2: Ending.REFUSED,
    3: Ending.ERROR,
    4: Ending.PAUSED,
    NOT_NOW: Ending.NOT_NOW,
    NOT_NEEDED: Ending.NOT_NEEDED,
    130: Ending.INTERRUPTED,
}


class ErrorRecord(Record):
    """What ended a command early."""

    type: str
    """Class of the error, as ``pydoc harness.core.errors`` has it."""
    message: str
    hint: str | None = None
    guest: str | None = None
    where: str | None = None
    """The flag, the variable, or the file and key, if it is one of those."""

    @classmethod
    def of(cls, error: HarnessError) -> ErrorRecord:
        """Return an error as it is written down."""
        named = (getattr(error, "file", None), getattr(error, "key", None))
        where = ": ".join(str(one) for one in named if one)
        return cls(
            type=type(error).__name__,
            message=error.message,
            hint=error.hint,
            guest=error.guest,
            where=where or None,
        )


class Answer(Record):
    """What ``harness run --rollout`` and ``harness plan --rollout`` print with ``--json``."""

    schema_version: int = SCHEMA_VERSION
    rollout: str
    """The ID that was given."""
    outcome: Ending
    """What ``exit_code`` means, as a word."""
    exit_code: int
    already: bool = False
    """It was over before this command: nothing was done by it, nor would a plan be carried out."""
    goes_on: bool = False
    """Of a plan: a run for this ID goes on, and ``run`` would wait for it; ``plan`` is null."""
    error: ErrorRecord | None = None
    """What ended it early; null for a run that ended by itself, whatever it found."""
    record: RunRecord | None = None
    """``run.json`` of this rollout's run; null where there was none."""
    plan: dict[str, Any] | None = None
    """What ``harness plan --json`` prints; null but for a plan."""

    @classmethod
    def refusal(cls, rollout: str, error: HarnessError) -> Answer:
        """Return the answer of a command that failed before any guest was paused."""
        code = rollout_exit_code(error)
        return cls(
            rollout=rollout, outcome=ENDINGS[code], exit_code=code, error=ErrorRecord.of(error)
        )


def schema_of_run() -> dict[str, Any]:
    """Return the JSON schema of ``run.json``."""
    return _schema(RunRecord, "urn:harness:run.json:1", "run.json")


def schema_of_answer() -> dict[str, Any]:
    """Return the JSON schema of what ``--rollout`` prints with ``--json``."""
    return _schema(Answer, "urn:harness:rollout:1", "harness run --rollout ID --json")


def _schema(model: type[BaseModel], identity: str, title: str) -> dict[str, Any]:
    schema = model.model_json_schema(mode="serialization")
    for definition in (schema, *schema.get("$defs", {}).values()):
        definition.pop("additionalProperties", None)  # a later version says more
    explain_models(schema, model)
    return {"$schema": _DIALECT, "$id": identity, **schema, "title": title}
