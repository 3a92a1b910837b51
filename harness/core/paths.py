"""Where things are kept on this machine."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs

_NAME = "harness"


def state_dir() -> Path:
    """Runs, the lab, the stand-in component: ``$HARNESS_STATE_DIR``, else XDG's state folder."""
    return _overridden("HARNESS_STATE_DIR") or platformdirs.user_state_path(_NAME)


def cache_dir() -> Path:
    """What can be made again: ``$HARNESS_CACHE_DIR``, else XDG's cache folder."""
    return _overridden("HARNESS_CACHE_DIR") or platformdirs.user_cache_path(_NAME)


def config_files() -> tuple[Path, ...]:
    """Where a configuration is looked for, first one wins."""
    return (
        Path("harness.toml"),
        platformdirs.user_config_path(_NAME) / "harness.toml",
        Path("/etc/harness/harness.toml"),
    )


def _overridden(variable: str) -> Path | None:
    value = os.environ.get(variable)
    return Path(value).absolute() if value else None
