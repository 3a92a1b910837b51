"""What HARNESS_REQUIRE insists on: a test that lacks it fails there, where else it is skipped."""

from __future__ import annotations

import os


def required(capability: str) -> bool:
    """Whether ``capability`` is among the names in HARNESS_REQUIRE, separated by commas."""
    return capability in os.environ.get("HARNESS_REQUIRE", "").split(",")
