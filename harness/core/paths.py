"""Where things are kept on this machine."""

from __future__ import annotations

import os
import pwd
from pathlib import Path

import platformdirs

_NAME = "harness"
#: Where the unit files of packaging/systemd keep it.
_SYSTEM_STATE = Path("/var/lib/harness")
#: As login.defs(5) has them: below are accounts of services, which have no runs.
_FIRST_USER, _NOBODY = 1000, 65534


def state_dir() -> Path:
    """Runs, the lab, the stand-in component: ``$HARNESS_STATE_DIR``, else XDG's state folder."""
    return _overridden("HARNESS_STATE_DIR") or platformdirs.user_state_path(_NAME)


def known_state_dirs() -> tuple[Path, ...]:
    """Return every state folder that a run of any user may have used by default, ours first.

    Whether they are there is not looked at. A folder that was chosen by ``$HARNESS_STATE_DIR`` of
    another process is not known here.
    """
    homes = [Path(user.pw_dir) for user in pwd.getpwall() if _logs_in(user.pw_uid)]
    places = [state_dir(), platformdirs.user_state_path(_NAME), _SYSTEM_STATE]
    return tuple(dict.fromkeys([*places, *(home / ".local" / "state" / _NAME for home in homes)]))


def _logs_in(uid: int) -> bool:
    return uid == 0 or _FIRST_USER <= uid < _NOBODY


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
