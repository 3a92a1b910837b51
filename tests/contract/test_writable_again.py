"""Disks that are read-only when who was to leave the kernel is killed: a real file system.

Requires: root, and a loop device. Leaves behind: nothing; its mounts are in a namespace of its own.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

DIES = """
import os, signal, subprocess, sys
from harness.core.timebase import Deadline
from harness.host.kernel.writable_again import Watch
from harness.host.mounts import still_written
place = sys.argv[1]
watch = Watch()
watch.require(Deadline.after(60))
watch.arm([one for one in still_written() if one.where == place])
subprocess.run(["mount", "-o", "remount,ro", place], check=True)
if sys.argv[2] == "disarmed":
    watch.disarm()
os.kill(os.getpid(), signal.SIGKILL)
"""
#: It waits for two seconds until nothing is written to, which on this machine never comes.
SCRIPT = """
set -e
truncate -s 16M image && mkfs.ext4 -q -F image && mkdir place && mount -o loop,nosuid image place
"$1" -P -c "$2" "$PWD/place" "$3" || [ $? = 137 ]
for _ in $(seq 100); do
    touch place/written 2>/dev/null && break
    sleep 0.1
done
grep " $PWD/place " /proc/self/mountinfo
umount place
"""


@pytest.mark.skipif(
    os.geteuid() != 0 or not Path("/dev/loop-control").exists(), reason="root, a loop device"
)
@pytest.mark.parametrize(("how", "options"), [("armed", "rw,nosuid"), ("disarmed", "ro,nosuid")])
def test_a_file_system_is_written_to_again_when_its_process_was_killed(tmp_path, how, options):
    """With the options that it had; one that was let go stays as it is."""
    words = ["unshare", "-m", "sh", "-c", SCRIPT, "sh", sys.executable, DIES, how]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert options in done.stdout, done.stderr
