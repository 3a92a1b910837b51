"""Output that cannot raise: what cannot be written is dropped, and noted."""

from __future__ import annotations

import errno
import io
import os
import subprocess
import sys

import pytest

from harness.core.streams import Output

#: Prints to both streams after they were protected, and what was lost.
SPEAKER = """
import os, sys
from harness.core.streams import lost_output, protect_output
protect_output()
print("a \\u2013 b", flush=True)
sys.stderr.write("c \\u2013 d\\n")
lost = lost_output()
os._exit(lost.errno if lost else 0)
"""


def text_to(output: Output) -> io.TextIOWrapper:
    """What ``print`` writes to."""
    return io.TextIOWrapper(io.BufferedWriter(output), encoding="utf-8", line_buffering=True)


@pytest.mark.parametrize(
    ("broken", "number"), [("full", errno.ENOSPC), ("gone", errno.EPIPE), ("closed", errno.EBADF)]
)
def test_what_cannot_be_written_is_noted_and_dropped(broken, number):
    """A full disk, a reader that has gone, a descriptor that was closed: nothing is raised."""
    if broken == "full":
        descriptor = os.open("/dev/full", os.O_WRONLY)
    else:
        reader, descriptor = os.pipe()
        os.close(reader)
        if broken == "closed":
            os.close(descriptor)
    output = Output(descriptor, patience_s=1.0)
    text = text_to(output)
    print("lost", file=text)
    print("after that", file=text)
    assert output.lost is not None
    assert output.lost.errno == number
    if broken != "closed":
        os.close(descriptor)


def test_a_reader_that_does_not_read_is_given_up():
    """After its patience, once: what comes later is dropped at once."""
    reader, writer = os.pipe()
    output = Output(writer, patience_s=0.05)
    text = text_to(output)
    print("x" * (1 << 20), file=text)
    assert output.lost is not None
    assert output.lost.errno == errno.ETIMEDOUT
    assert os.read(reader, 1) == b"x"
    print("dropped, though there is room now", file=text)
    assert b"dropped" not in os.read(reader, 1 << 20)
    os.close(reader)
    os.close(writer)


@pytest.mark.parametrize("encoding", ["latin-1", "ascii", "utf-8"])
def test_a_character_that_an_encoding_lacks_is_escaped(encoding):
    """On both streams; both lines are whole."""
    done = subprocess.run(
        [sys.executable, "-P", "-c", SPEAKER],
        capture_output=True,
        timeout=60,
        env={**os.environ, "PYTHONIOENCODING": f"{encoding}:strict"},
    )
    dash = "\u2013" if encoding == "utf-8" else "\\u2013"
    assert done.returncode == 0
    assert done.stdout.decode() == f"a {dash} b\n"
    assert done.stderr.decode() == f"c {dash} d\n"


def test_a_result_that_was_lost_is_known():
    """Of standard output; by what ``lost_output`` says."""
    full = os.open("/dev/full", os.O_WRONLY)
    try:
        done = subprocess.run([sys.executable, "-P", "-c", SPEAKER], stdout=full, timeout=60)
    finally:
        os.close(full)
    assert done.returncode == errno.ENOSPC
