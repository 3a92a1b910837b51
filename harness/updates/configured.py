"""The updates that a configuration asks for."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from harness.core.errors import ConfigError
from harness.core.settings import UpdateSection
from harness.core.several import numbered
from harness.updates.chain import chained
from harness.updates.expected import learn
from harness.updates.protocol import HostUpdate, Site
from harness.updates.registry import make
from harness.updates.windows import shared_windows


def make_update(
    sections: Sequence[UpdateSection], uri: str, folder: Path, follows: tuple[str, ...] = ()
) -> HostUpdate:
    """Return the updates of one window as one, on the host of ``uri``. Raises ConfigError.

    Where nothing says how long one should take, earlier runs in ``folder`` (the state folder) do.
    ``follows``: the kinds whose windows come before, in the same plan.
    """
    return chained(_made(sections, uri, folder, follows))


def windows(
    sections: Sequence[UpdateSection], uri: str, folder: Path
) -> list[tuple[UpdateSection, ...]]:
    """Return ``sections``, in order, in as many windows as they take.

    Raises ConfigError, and PlanError for updates that cannot be in one plan.
    """
    if len(sections) == 1:
        return [tuple(sections)]
    made = _made(sections, uri, folder, ())
    return [tuple(sections[number] for number in numbers) for numbers in shared_windows(made)]


def _made(
    sections: Sequence[UpdateSection], uri: str, folder: Path, follows: tuple[str, ...]
) -> list[HostUpdate]:
    found = []
    for number, section in enumerate(sections, 1):
        earlier = learn(folder, section) if section.expected_s is None else None
        try:
            found.append(make(section, Site(uri, folder, earlier, follows)))
        except ConfigError as error:
            raise numbered(error, number, len(sections)) from error
    return found
