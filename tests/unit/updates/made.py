"""An update of each kind, made of what that kind cannot do without."""

from __future__ import annotations

from typing import Any

from harness.updates.protocol import THIS_HOST, HostUpdate
from harness.updates.registry import Kind

_NEEDED = {"command": ("true",), "packages": ("one",), "module": "one", "sysctl": ("a=1",)}


def made(kind: Kind[Any]) -> HostUpdate:
    return kind.make(kind.settings.model_construct(**_NEEDED), THIS_HOST)
