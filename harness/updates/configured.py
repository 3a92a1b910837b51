"""The update that a configuration asks for."""

from __future__ import annotations

from pathlib import Path

from harness.core.settings import UpdateSection
from harness.updates.expected import learn
from harness.updates.protocol import HostUpdate, Site
from harness.updates.registry import make


def make_update(section: UpdateSection, uri: str, folder: Path) -> HostUpdate:
    """Return the update that ``[update]`` asks for, on the host of ``uri``. Raises ConfigError.

    Where nothing says how long it should take, earlier runs in ``folder`` (the state folder) do.
    """
    earlier = learn(folder, section) if section.expected_s is None else None
    return make(section, Site(uri, folder, earlier))
