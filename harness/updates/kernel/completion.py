"""The unit of systemd's that finishes a run whose kernel was left, once the host is up.

It is there from the handover until the run is finished: nothing of it is installed for good.
"""

from __future__ import annotations

import sys
from contextlib import suppress
from pathlib import Path

from harness.core.errors import InfrastructureError
from harness.core.files import public_folder, sync_folder, write_atomically

UNITS = Path("/etc/systemd/system")
NAME = "harness-complete.service"
_READABLE = 0o644
#: What ends it may be over soon: a kill, a libvirtd that starts late.
_ATTEMPTS = 5
_TEXT = """# Written by harness for one handover to another kernel; gone when that is finished.
[Unit]
Description=Finish the maintenance that has replaced this host's kernel
ConditionPathExists={plan}
Wants=libvirtd.service network-online.target
After=libvirtd.service network-online.target harness-region.service
# A guest that is refused is refused again: a person is asked for, who then says `harness recover`.
StartLimitIntervalSec=1h
StartLimitBurst={attempts}

[Service]
Type=oneshot
Environment="HARNESS_STATE_DIR={state_dir}"
ExecStart="{python}" -P -m harness recover
Restart=on-failure
RestartSec=5
"""


def text(plan: Path, state_dir: Path, python: str = sys.executable) -> str:
    """Return the unit's text. A percent sign is systemd's own in such a file."""
    said = {"plan": str(plan), "state_dir": str(state_dir), "python": python}
    told = {name: one.replace("%", "%%") for name, one in said.items()}
    return _TEXT.format(attempts=_ATTEMPTS, **told)


def write(plan: Path, state_dir: Path, units: Path = UNITS) -> None:
    """Have the next boot finish what waits in ``state_dir``. Raises InfrastructureError."""
    wanted = _wanted(units)
    try:
        public_folder(wanted.parent)
        write_atomically(units / NAME, text(plan, state_dir), mode=_READABLE)
        wanted.unlink(missing_ok=True)
        wanted.symlink_to(units / NAME)
        sync_folder(wanted.parent)
    except OSError as error:
        raise InfrastructureError(f"{error.filename}: {error.strerror}") from error


def forget(units: Path = UNITS) -> None:
    """Take it away. Never raises."""
    for one in (_wanted(units), units / NAME):
        with suppress(OSError):
            one.unlink(missing_ok=True)


def _wanted(units: Path) -> Path:
    return units / "multi-user.target.wants" / NAME
