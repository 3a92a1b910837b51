"""The host's kernel is replaced by a run that another machine has started, and one on a terminal.

That machine is the one that these tests run on; the host's port of SSH is forwarded to it, so that
what answers ICMP here is not the host, and is not taken for it.
"""

from __future__ import annotations

import getpass
import json
import os
import re
import subprocess
import sys
from pathlib import Path

from tests.live_kernel.enrolled import BUDGET_S, CONFIG, EXPECTED_S, GUESTS, configure, record, told
from tests.live_kernel.machine import Machine
from tests.terminal import on_a_terminal

HARNESS = str(Path(sys.executable).with_name("harness"))
TOML = """
uri = "{uri}"
budget_s = {budget_s}
[update]
kind = "kernel"
kernel = "{kernel}"
initrd = "{initrd}"
expected_s = {expected_s}
[clock]
samples = 40
lag_tolerance_s = 20.0
"""


def uri(host: Machine, folder: Path) -> str:
    """The host as this machine names it; its key is trusted as it is shown the first time."""
    known = folder / "known_hosts"
    scan = ["ssh-keyscan", "-t", "ed25519", "-p", str(host._port), "127.0.0.1"]
    known.write_text(subprocess.run(scan, check=True, capture_output=True, text=True).stdout)
    ways = f"keyfile={host._key}&known_hosts={known}"
    return f"qemu+ssh://root@127.0.0.1:{host._port}/system?{ways}"


def test_a_run_from_another_machine_outlives_the_hosts_kernel(resident, tmp_path):
    """One command there: progress, the silence, and the record that the next kernel wrote."""
    host = resident.host
    new, kernel, initrd = resident.other()
    before = told(host)
    (tmp_path / "harness.toml").write_text(
        TOML.format(
            uri=uri(host, tmp_path),
            budget_s=BUDGET_S,
            kernel=kernel,
            initrd=initrd,
            expected_s=EXPECTED_S,
        )
    )
    done = subprocess.run(
        [HARNESS, "run", *GUESTS, "--json"],
        cwd=tmp_path,
        env={**os.environ, "HARNESS_STATE_DIR": str(tmp_path / "state"), "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=1800,
    )
    sys.stdout.write(done.stderr)
    found = json.loads(done.stdout)
    there = record(host)
    assert host.sh("uname -r").strip() == new
    assert told(host) == before
    assert (done.returncode, found["outcome"], found["problems"]) == (0, "pass", []), found
    seen = found.pop("outside")
    sys.stdout.write(f"{json.dumps(seen)}\n")
    assert {**there, "outside": None, "warnings": found["warnings"]} == {**found, "outside": None}
    assert seen["unreachable_s"] > max(one["pause_window_s"] for one in found["guests"]) / 2
    assert seen["host"] is None
    assert "was not watched" in json.dumps(seen["notes"])
    (folder,) = (tmp_path / "state" / "runs").iterdir()
    assert folder.name == there["run_id"]
    assert (folder / "report.html").exists()


def test_on_the_host_itself_the_terminal_says_where_the_result_will_be(resident, tmp_path):
    """By SSH on a terminal: all that was said before the connection ended is on it."""
    host = resident.host
    new, kernel, initrd = resident.other()
    configure(host, kernel, initrd)
    known = tmp_path / "known_hosts"
    uri(host, tmp_path)
    options = ["-F", "/dev/null", "-o", f"UserKnownHostsFile={known}", "-i", str(host._key)]
    options += ["-o", "ServerAliveInterval=5", "-o", "ServerAliveCountMax=60"]
    run = f"HARNESS_CONFIG={CONFIG} harness run {' '.join(GUESTS)} --budget {BUDGET_S}"
    words = ["ssh", "-tt", *options, "-p", str(host._port), "root@127.0.0.1", run]
    already = len(host.lines["host"])
    with on_a_terminal(words, tmp_path, {**os.environ, "USER": getpass.getuser()}) as terminal:
        host.wait("host", "harness: init", already)
        found = record(host)
        terminal.end()
        shown = terminal.text
    sys.stdout.write(f"{terminal.screen}\n")
    assert host.sh("uname -r").strip() == new
    assert f"this host goes on in {new}" in shown
    (run_id,) = set(re.findall(r"harness report (\S+)", shown))
    assert run_id == found["run_id"]
    assert "PASS" in host.sh(f"harness report {run_id}")
