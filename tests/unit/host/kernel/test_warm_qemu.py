"""A QEMU that runs beside and has no guest: by the real one, and by programs that are none."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from harness.host.kernel import warm_qemu
from harness.host.kernel.warm_qemu import WarmQemu

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="it takes another user's groups")
REAL = "/usr/bin/qemu-system-x86_64"
GUEST = """<domain type='{kind}'><os><type machine='{machine}'>hvm</type></os>
<devices><emulator>{emulator}</emulator></devices></domain>"""


@pytest.fixture
def ram(tmp_path) -> Path:
    file = tmp_path / "pc.ram"
    file.touch()
    return file


def emulator(folder: Path, text: str) -> str:
    program = folder / "emulator"
    program.write_text(f"#!/bin/sh\n{text}\n")
    program.chmod(0o755)
    return str(program)


def status(warm: WarmQemu) -> int:
    """Of the one that was started; it ends by itself."""
    (process,) = warm._started
    return process.wait(60)


def test_each_emulator_makes_the_machine_that_its_guests_have():
    """With KVM where they have it; one is enough for all of a kind."""
    guests = [("kvm", "q35", "/a"), ("kvm", "q35", "/a"), ("qemu", "pc", "/b")]
    texts = [GUEST.format(kind=kind, machine=m, emulator=e) for kind, m, e in guests]
    assert warm_qemu.described(texts) == {"/a": "q35,accel=kvm", "/b": "pc,accel=tcg"}
    assert warm_qemu.described(["<domain><devices/></domain>"]) == {}


def test_it_is_told_to_make_the_machine_and_to_end(tmp_path, ram):
    """It is given no disk, no network and no RAM of a guest's."""
    said = tmp_path / "said"
    program = emulator(tmp_path, f'echo "$@" >{said}; cat >>{said}')
    warm = WarmQemu({program: "q35,accel=kvm"}, ram)
    assert status(warm) == 0
    words, *lines = said.read_text().splitlines()
    assert words.startswith("-machine q35,accel=kvm -no-user-config -nodefaults ")
    assert lines[-1] == '{"execute": "quit"}'
    warm.end()


def test_it_runs_as_the_user_of_the_guests_ram(tmp_path, ram):
    """As libvirt runs it, and not as root: whose program it is, is libvirt's to know."""
    tmp_path.chmod(0o777)
    for parent in tmp_path.parents:
        parent.chmod(0o755)
        if parent.name.startswith("pytest-of-"):  # what is above is not pytest's
            break
    os.chown(ram, 65534, 65534)
    said = tmp_path / "said"
    assert status(WarmQemu({emulator(tmp_path, f"id -u >{said}"): "pc"}, ram)) == 0
    assert said.read_text() == "65534\n"


@pytest.mark.skipif(not Path(REAL).exists(), reason="QEMU is not installed")
def test_a_real_one_makes_its_machine_and_ends_by_itself(ram):
    """By what it is told at its start."""
    assert status(WarmQemu({REAL: "q35,accel=tcg"}, ram)) == 0


def test_one_that_runs_when_guests_are_to_start_is_ended(tmp_path, ram):
    """What it has read by then is worth it."""
    warm = WarmQemu({emulator(tmp_path, "exec sleep 60"): "pc"}, ram)
    began_s = time.monotonic()
    warm.end()
    assert time.monotonic() - began_s < 30
    warm.end()


@pytest.mark.parametrize("missing", ["emulator", "ram", "user", "all"])
def test_nothing_that_is_missing_keeps_anybody_from_a_guest(tmp_path, ram, missing):
    program = emulator(tmp_path, "true")
    if missing == "emulator":
        program = "/nonexistent"
    elif missing == "ram":
        ram.unlink()
    elif missing == "user":
        os.chown(ram, 4_000_000, 0)
    warm = WarmQemu({program: "pc"}, None if missing == "all" else ram)
    assert warm._started == []
    warm.end()
