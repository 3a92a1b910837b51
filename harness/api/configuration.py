"""Which configuration is in force: found and laid over as the command line does it."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from harness.core import paths
from harness.core.config import Loaded, load
from harness.core.errors import ConfigError
from harness.updates.registry import FULL_CONFIG


def load_config(
    file: Path | None = None,
    settings: Mapping[str, Any] | None = None,
    *,
    environment: Mapping[str, str] | None = None,
    typed: Mapping[str, str] | None = None,
    tell: Callable[[str], object] = lambda line: None,
) -> Loaded:
    """Return the configuration in force, found and laid over as the command line does it.

    Args:
        file: The configuration file; None: ``./harness.toml``, else the user's, else the
            system's, else that of a lab that is up, else defaults only.
        settings: Dotted keys of harness.toml that go before everything else; None values are
            left out. ``{"budget_s": 10.0, "clock.correct": False}``
        environment: ``HARNESS_…`` variables, laid between ``file`` and ``settings``; None: those
            of this process.
        typed: For each key of ``settings`` what a person typed to set it, such as ``--budget``;
            errors and origins name it.
        tell: Called with one line if the configuration is that of a lab, or a lab still boots.

    Raises:
        ConfigError: It cannot be read, or a value in it is not valid.
    """
    found = file or next((path for path in paths.config_files() if _is_there(path)), None)
    if found is None:
        from harness.lab.state import is_booting, lab_config_file  # loads libvirt

        found = lab_config_file()
        if found is not None:
            tell(f"using the configuration of the lab that is up: {found}")
        elif is_booting():
            tell("a lab is still booting: its guests are known when harness lab up has ended")
    known = os.environ if environment is None else environment
    return load(found, environment=known, flags=settings or {}, model=FULL_CONFIG, typed=typed)


def _is_there(path: Path) -> bool:
    """Raises ConfigError where we may not look: what is there may be what matters."""
    try:
        return path.is_file()
    except OSError as error:
        message = f"cannot be looked for: {error.strerror}"
        raise ConfigError(message, file=path, hint="name the file to use: -c FILE") from error
