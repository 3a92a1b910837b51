"""What a recipe depends on beside its own folder: files of the checkout, and other images.

They are in the recipe's file ``inputs``, a line each: ``file PATH`` (from the checkout's top) or
``image NAME``. They are part of the image's key, so that a change of one makes another image.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from harness.core.errors import LabError, UsageError


@dataclass(frozen=True)
class Inputs:
    """``files`` with their names in the checkout, and names of images."""

    files: tuple[str, ...] = ()
    images: tuple[str, ...] = ()


def checkout() -> Path:
    """The top of the checkout that this code runs from. Raises UsageError where there is none."""
    top = Path(__file__).resolve().parents[2]
    if not (top / "pyproject.toml").is_file() or not (top / "vm-images").is_dir():
        raise UsageError(
            "this needs a checkout of harness: what is installed holds no sources",
            hint="git clone it, then make setup",
        )
    return top


def inputs_of(recipe: Path) -> Inputs:
    """What ``recipe`` says it depends on. Raises LabError for a line that is neither."""
    file = recipe / "inputs"
    if not file.is_file():
        return Inputs()
    found: dict[str, list[str]] = {"file": [], "image": []}
    for line in file.read_text().splitlines():
        kind, _, name = line.partition(" ")
        if kind not in found or not name:
            raise LabError(f"{file}: {line!r} is neither 'file PATH' nor 'image NAME'")
        found[kind].append(name)
    return Inputs(tuple(found["file"]), tuple(found["image"]))
