"""The update that a configuration asks for."""

from __future__ import annotations

from pathlib import Path

from harness.core.settings import Config
from harness.updates.expected import learn
from harness.updates.protocol import HostUpdate, Site
from harness.updates.registry import make


def make_update(config: Config, folder: Path) -> HostUpdate:
    """The update that the configuration asks for. Raises ConfigError.

    Where nothing says how long it should take, earlier runs in ``folder`` (the state folder) do.
    """
    section = config.update
    earlier = learn(folder, section) if section.expected_s is None else None
    return make(section, Site(config.uri, folder, earlier))
