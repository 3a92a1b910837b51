"""Into the box: OpenSSH with the box's own key, its host key pinned, and nothing of the user's."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

from harness.core.errors import LabError
from harness.core.timebase import Deadline
from harness.lab.box.state import HOST, USER, BoxState, identity_file, known_hosts


def command(box: BoxState, words: Sequence[str] = (), options: Sequence[str] = ()) -> list[str]:
    """The ``ssh`` command line; ``words`` reach the box's shell as ssh sends them."""
    settings = {
        "UserKnownHostsFile": known_hosts(),
        "GlobalKnownHostsFile": "/dev/null",
        "StrictHostKeyChecking": "yes",
        "IdentitiesOnly": "yes",
        "IdentityFile": identity_file(),
        "ConnectTimeout": 30,
        "LogLevel": "ERROR",
    }
    said = [word for key, value in settings.items() for word in ("-o", f"{key}={value}")]
    # -F: a person's own configuration may say anything about 127.0.0.1.
    base = ["ssh", "-F", "/dev/null", *said, "-p", str(box.port), *options]
    return [*base, f"{USER}@{HOST}", *words]


def execute(box: BoxState, remote: str, deadline: Deadline, feed: Path | None = None) -> str:
    """Run ``remote``, a constant, in the box's shell; its output.

    ``feed`` is what it reads. Raises LabError if it fails or is not done in time.
    """
    source = open(feed, "rb") if feed else None  # noqa: SIM115 - closed below, with the process
    try:
        done = subprocess.run(
            command(box, [remote], ["-o", "BatchMode=yes"]),
            stdin=source or subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=max(1.0, deadline.timeout_s()),
        )
    except FileNotFoundError as error:
        raise LabError("ssh is not installed", hint="make setup") from error
    except subprocess.TimeoutExpired as error:
        raise LabError(f"in the box, {remote!r} did not end in time") from error
    finally:
        if source:
            source.close()
    if done.returncode != 0:
        said = (done.stderr or done.stdout).strip().splitlines()[-1:]
        raise LabError(f"in the box, {remote!r} ended with {done.returncode}: {' '.join(said)}")
    return done.stdout
