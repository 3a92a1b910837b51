"""paramiko, without the library that it loads for `Match exec`: an eighth of what a run loads.

Nothing of harness has paramiko read a configuration file (OpenSSH is asked, see openssh.py). A
program that harness is a part of may: then `invoke` is loaded when paramiko needs it.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import Any

_NAME = "invoke"


class _Later(ModuleType):
    """Stands for the library in the module that imports it, and loads it when it is used."""

    def __getattr__(self, name: str) -> Any:
        if sys.modules.get(_NAME) is self or name.startswith("__"):
            raise AttributeError(name)
        return getattr(importlib.import_module(_NAME), name)


def _load() -> None:
    if "paramiko" in sys.modules or _NAME in sys.modules:
        return
    later = sys.modules[_NAME] = _Later(_NAME)
    try:
        importlib.import_module("paramiko")
    finally:
        if sys.modules.get(_NAME) is later:
            del sys.modules[_NAME]


_load()
import paramiko  # noqa: E402

__all__ = ["paramiko"]
