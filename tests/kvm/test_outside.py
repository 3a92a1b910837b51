"""A maintenance whose runner is not the host: libvirt and guests are reached through the box.

Requires: the lab box with guest kvm-1. Leaves behind: guests that run, with right clocks.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path
from tempfile import mkdtemp

import tomli_w

from harness.lab.box import state
from tests import losses
from tests.kvm.test_maintenance import checks

#: The lab in the box.
LAB = "/root/.local/state/harness/lab"
#: QEMU is a process of another machine, and only SSH knows the guest's address
#: (docs/reference/checks.md).
NOT_SEEN_FROM_HERE = {"downtime", "ram", "same-process", "vcpus"}


def test_a_maintenance_from_outside_the_box(guest, tmp_path):
    """libvirt over qemu+ssh, the guests over SSH by way of the box; every key pinned."""
    home = Path(mkdtemp(dir=tmp_path))  # done again, it begins with nothing
    lab = Path(home, "lab")
    lab.mkdir(mode=0o700)
    for name in ("harness.toml", "known_hosts", "id_ed25519"):
        content = guest.sh(f"cat {LAB}/{name}").out
        Path(lab, name).touch(mode=0o600)
        Path(lab, name).write_text(content)
    ended = run_from_outside(guest, lab, home)
    if ended.returncode:
        losses.look()
    assert ended.returncode == 0, ended.stdout + ended.stderr
    record = json.loads(ended.stdout)
    (told,) = record["guests"]
    assert told["accelerator"] == "kvm"
    found = checks(told)
    skipped = {name for name, outcome in found.items() if outcome == "skip"}
    assert skipped == NOT_SEEN_FROM_HERE, told["checks"]
    assert {found[name] for name in found.keys() - skipped} == {"pass"}, told["checks"]


def run_from_outside(box, lab: Path, home: Path):
    """``harness run kvm-1`` on this machine, in a home of its own that knows the way to the box."""
    found = state.load()
    (home / ".ssh").mkdir(mode=0o700)
    config = home / ".ssh" / "config"
    config.write_text(
        f"Host labbox\n HostName 127.0.0.1\n Port {found.port}\n User root\n"
        f" IdentityFile {state.identity_file()}\n IdentitiesOnly yes\n"
        f" UserKnownHostsFile {state.known_hosts()}\n StrictHostKeyChecking yes\n"
    )
    # OpenSSH looks up its user's home in passwd, so it is told.
    ssh = home / "ssh"
    ssh.write_text(f'#!/bin/sh\nexec ssh -F {shlex.quote(str(config))} "$@"\n')
    ssh.chmod(0o755)
    guest = {
        "name": "kvm-1",
        "address": box.sh(f"grep -A1 kvm-1 {LAB}/harness.toml").out.split('"')[3],
    }
    document = {
        "uri": f"qemu+ssh://labbox/system?command={ssh}&no_tty=1",
        "ssh": {
            "user": "root",
            "identity_file": str(lab / "id_ed25519"),
            "known_hosts": str(lab / "known_hosts"),
            "proxy_jump": "labbox",
        },
        # A call of libvirt takes half a second on this way, so the pause is known no better.
        "clock": {"lag_tolerance_s": 2.0},
        "guest": [guest],
    }
    file = home / "harness.toml"
    file.write_text(tomli_w.dumps(document))
    words = [sys.executable, "-m", "harness", "run", "-c", str(file), "--duration", "5", "--json"]
    words += ["--no-report"]
    where = {"HOME": str(home), "HARNESS_STATE_DIR": str(home / "state")}
    return subprocess.run(
        [*words, "kvm-1"], env={**os.environ, **where}, capture_output=True, text=True, timeout=240
    )
