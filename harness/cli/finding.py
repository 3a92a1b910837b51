"""One thing that `harness doctor` has looked at. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class Level(StrEnum):
    """How much a finding matters."""

    OK = "ok"
    WARNING = "warning"
    PROBLEM = "problem"


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    name: str
    level: Level
    detail: str
    fix: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """What was measured, for programs; durations in seconds (``_s``)."""
