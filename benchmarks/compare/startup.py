"""How long a person waits: for the help, and until a command has reached libvirt."""

from __future__ import annotations

import socket
import subprocess
import sys
import tempfile
from pathlib import Path

from harness.core.timebase import Stopwatch

HARNESS = [sys.executable, "-P", "-m", "harness"]


def help_ms() -> float:
    """``harness --help`` from start to end."""
    watch = Stopwatch()
    subprocess.run([*HARNESS, "--help"], stdout=subprocess.DEVNULL, check=True)
    return 1000 * watch.elapsed_s()


def first_call_ms() -> float:
    """``harness run`` from its start to its first connection, to a socket of our own."""
    with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX) as listener:
        path = Path(folder, "libvirt-sock")
        listener.bind(str(path))
        listener.listen()
        watch = Stopwatch()
        process = subprocess.Popen(
            [*HARNESS, "run", "guest", "--uri", f"qemu+unix:///system?socket={path}"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        connection, _ = listener.accept()
        reached_ms = 1000 * watch.elapsed_s()
        connection.close()
        process.kill()
        process.wait()
    return reached_ms
