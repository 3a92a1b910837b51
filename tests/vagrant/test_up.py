"""What a person types: `vagrant up`, then `vagrant ssh -c 'harness run'`.

With a box packed from the lab box's image and no network, by Debian's Vagrant, in a libvirt of our
own; emulated where there is no KVM.

Requires: HARNESS_REQUIRE=vagrant-up inside scripts/in-namespace, as `make test-vagrant` has it;
else it is skipped, because it takes a machine of two cores for minutes. Leaves behind: nothing.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from harness.host.accelerator import probe
from harness.lab import daemon
from harness.testing.required import required

ROOT = Path(__file__).resolve().parents[2]
BOX = "labbox"
_PACK_S, _UP_S = 300, 1200

pytestmark = pytest.mark.timeout(_PACK_S + 2 * _UP_S)

Vagrant = Callable[..., str]


@pytest.fixture
def vagrant(tmp_path) -> Iterator[Vagrant]:
    """``vagrant("up")`` in this checkout, with a home and a libvirt of its own; then no machine."""
    if not required("vagrant-up"):
        pytest.skip("takes minutes of a whole machine: make test-vagrant")
    driver = "kvm" if probe().accelerator == "kvm" else "qemu"
    own = {
        "VAGRANT_HOME": str(tmp_path / "home"),
        "VAGRANT_DOTFILE_PATH": str(tmp_path / "dot"),
        "VAGRANT_DEFAULT_PROVIDER": "libvirt",
        "HARNESS_BOX": BOX,
        "HARNESS_BOX_DRIVER": driver,
    }

    def run(*words: str) -> str:
        return output(["vagrant", *words], {**os.environ, **own}, _UP_S)

    with libvirtd(tmp_path):
        yield run
        run("destroy", "--force")


@contextmanager
def libvirtd(logs: Path):
    """Where none answers, one of our own for the time of a ``with``."""
    started = daemon.ensure("qemu:///system", logs, print)
    try:
        yield
    finally:
        daemon.stop(started)


def output(words: list[str], environment: dict[str, str], timeout_s: float) -> str:
    done = subprocess.run(
        words, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=timeout_s
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_person_gets_a_kvm_host_with_guests_and_maintains_them(vagrant, tmp_path):
    """Two commands after the box is there; type kvm, both guests right in the end."""
    box = tmp_path / "packed.box"
    output([str(ROOT / "vm-images/labbox/pack-box"), str(box)], dict(os.environ), _PACK_S)
    vagrant("box", "add", "--name", BOX, str(box))
    box.unlink()
    vagrant("up")
    record = json.loads(vagrant("ssh", "-c", "harness run --json --no-report"))
    assert record["outcome"] == "pass", record
    assert record["host"]["accelerator"] == "kvm"
    assert [(g["accelerator"], g["outcome"]) for g in record["guests"]] == [("kvm", "pass")] * 2
