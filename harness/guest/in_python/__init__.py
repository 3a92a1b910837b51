"""What a guest with python3 is asked in Python, by an interpreter that runs there already.

To start a process takes an emulated guest a tenth of a second, and a login shell another. The
files are never imported here; each leaves its answer in ``said``.
"""

from __future__ import annotations

import importlib.resources


def program(name: str, **given: object) -> str:
    """Return the text of a program; ``given`` are names that it knows, with plain values."""
    text = importlib.resources.files(__name__).joinpath(f"{name}.py").read_text(encoding="utf-8")
    return "".join(f"{key} = {value!r}\n" for key, value in given.items()) + text
