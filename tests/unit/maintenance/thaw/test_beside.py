"""What is done beside, where there is a CPU for it; a QEMU, by a program that is none."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from harness.host import ram_links
from harness.maintenance.thaw import beside
from tests.unit.updates.kernel.test_plan import PLAN


@pytest.fixture(params=[1, 2, None])
def cpus(request, monkeypatch) -> int:
    """How many CPUs there are; None: that cannot be told."""
    monkeypatch.setattr(os, "cpu_count", lambda: request.param)
    return request.param or 1


def test_what_talks_to_libvirt_is_imported_only_where_nobody_waits_for_that_cpu(cpus):
    """In another thread."""
    thread = beside.import_binding()
    assert (thread is not None) == (cpus > 1)
    if thread is not None:
        thread.join(60)
        assert not thread.is_alive()
        assert "harness.host.driver" in sys.modules


def test_a_binding_that_is_not_there_ends_nothing_beside():
    """Who needs it is told."""
    code = "import sys; sys.modules['libvirt'] = None\n"
    code += "from harness.maintenance.thaw import beside\n"
    code += "beside.has_cpus = lambda: True\n"
    code += "beside.import_binding().join()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.skipif(os.geteuid() != 0, reason="it takes another user's groups")
def test_a_qemu_is_started_beside_and_ended(cpus, tmp_path):
    """Of the guests' own user, and of the kind that they have."""
    program = tmp_path / "emulator"
    program.write_text("#!/bin/sh\nexec sleep 60\n")
    program.chmod(0o755)
    keep = tmp_path / "keep"
    ram_links.make_keep(keep)
    (keep / ram_links.RAM / "pc.ram").touch()
    (guest, *_) = PLAN.guests
    guest = replace(guest, keep=str(keep), ram={"pc.ram": "1:2"})
    plan = replace(PLAN, emulators={str(program): "pc"})
    with beside.warm_qemu(plan, [guest]) as warm:
        started = [Path(f"/proc/{one.pid}") for one in warm._started]
        assert len(started) == cpus - 1
        assert all(one.exists() for one in started)
    assert not any(one.exists() for one in started)
    with beside.warm_qemu(plan, []) as warm:
        assert warm._started == []
