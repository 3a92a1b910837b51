"""What guests can make the server write is bounded."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

#: A server's logs, and 3,000 requests that fail with a traceback each.
FLOOD = """
import logging, sys
from pathlib import Path
from harness.events.logs import prepare_logs
logging.basicConfig(stream=sys.stderr)
prepare_logs(Path(sys.argv[1]))
log, access = logging.getLogger("harness.events"), logging.getLogger("harness.events.access")
for number in range(int(sys.argv[2])):
    access.info("GET %d", number)
    try:
        raise ValueError("x" * 1000)
    except ValueError:
        log.exception("a request failed")
"""


def flood(folder, times: int) -> str:
    """What reached standard error."""
    command = [sys.executable, "-P", "-c", FLOOD, str(folder), str(times)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stderr


def test_tracebacks_do_not_grow_without_limit(tmp_path):
    """The first are on standard error, the last in two files of a limited size."""
    said = flood(tmp_path, 3000)
    assert said.count("Traceback") == 20
    assert f"more are in {tmp_path / 'events-errors.log'}" in said
    sizes = {path.name: path.stat().st_size for path in tmp_path.iterdir()}
    assert set(sizes) == {"events-access.log", "events-errors.log", "events-errors.log.1"}
    assert all(size < 1024 * 1024 + 4096 for size in sizes.values()), sizes
    assert "ValueError" in (tmp_path / "events-errors.log").read_text()[-2000:]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full")
def test_a_full_disk_is_not_told_of_at_each_request(tmp_path):
    """logging itself would write a traceback a record."""
    for name in ("events-access.log", "events-errors.log"):
        (tmp_path / name).symlink_to("/dev/full")
    said = flood(tmp_path, 100)
    assert said.count("Traceback") == 20
    assert "Logging error" not in said
