"""QEMU is replaced under paused guests, RAM in place: real guests, real libvirt, two real QEMUs.

Requires: the session's lab, whose RAM folder is in memory. The second QEMU is that of
``scripts/second-qemu``; where it is not there, guests are parked and come back in the same one.
Leaves behind: nothing.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from harness.core.paths import cache_dir
from harness.core.timebase import Deadline
from harness.lab import guests as labs
from harness.lab.specs import GuestSpec

#: Where QEMU's own user can start it.
_TREE = Path("/var/lib/libvirt/second-qemu")


@pytest.fixture(scope="session")
def second_qemu(lab):
    """The ``[update]`` keys of a hop to another QEMU, and what the way back takes."""
    cached = cache_dir() / "second-qemu"
    if not (cached / "complete").exists():
        return {"again": True}
    if not _TREE.exists():
        shutil.copytree(cached, _TREE, symlinks=True)
    return {"tree": str(_TREE)}


@pytest.fixture
def residents(lab, tmp_path, monkeypatch):
    """Guests ``res-1`` and ``res-2`` that can be replaced, in a lab of their own."""
    with monkeypatch.context() as patch:
        patch.setenv("HARNESS_STATE_DIR", str(tmp_path / "residents"))
        specs = [GuestSpec(f"res-{n}", "tiny", update_domain="0", resident=True) for n in (1, 2)]
        state = labs.up(specs, deadline=Deadline.after(120), progress=print)
        config = state.config_file
    yield state, config
    with monkeypatch.context() as patch:
        patch.setenv("HARNESS_STATE_DIR", str(tmp_path / "residents"))
        labs.down(print)


def monitor(name: str, command: str) -> dict:
    """QEMU's answer, by virsh."""
    asked = json.dumps({"execute": command})
    said = subprocess.run(
        ["virsh", "qemu-monitor-command", name, asked], capture_output=True, text=True, check=True
    )
    return json.loads(said.stdout)["return"]


def configured(config: Path, **update) -> str:
    """A configuration file with the lab's guests, and ``[update]`` of kind qemu."""
    lines = ['kind = "qemu"', *(f"{key} = {json.dumps(value)}" for key, value in update.items())]
    file = config.with_name("qemu.toml")
    file.write_text(config.read_text() + "\n[update]\n" + "\n".join(lines) + "\n")
    return str(file)


def test_guests_go_on_in_another_qemu_and_back(residents, libvirt, harness, second_qemu):
    """Both at once: the same boot, the same RAM files, another process, another version."""
    lab, config = residents
    before = {g.name: libvirt.parking.look(g.uuid, Deadline.after(10)) for g in lab.guests}
    done = harness("run", "-c", configured(config, **second_qemu), "--json")
    assert done.code == 0, done.err + done.out
    after = {g.name: libvirt.parking.look(g.uuid, Deadline.after(10)) for g in lab.guests}
    for name, look in after.items():
        assert look.process != before[name].process
        assert look.backings[0].identity == before[name].backings[0].identity
        assert look.backings[0].links == 1
        assert not look.capable
        if "tree" in second_qemu:
            assert look.version != before[name].version
    ram = Path(after["res-1"].backings[0].path).parents[1]
    assert not (ram / "harness-keep").exists()
