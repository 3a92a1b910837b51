"""The Vagrantfile, as far as Vagrant itself can judge it without a machine.

Requires: Debian's vagrant and vagrant-libvirt, as HARNESS_REQUIRE=vagrant insists. Leaves behind:
nothing.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from harness.testing.required import required

ROOT = Path(__file__).resolve().parents[2]


def validate(tmp_path, **environment: str) -> subprocess.CompletedProcess:
    if shutil.which("vagrant") is None:
        why = "vagrant is not installed (apt-get install vagrant vagrant-libvirt)"
        (pytest.fail if required("vagrant") else pytest.skip)(why)
    own = {"VAGRANT_HOME": str(tmp_path / "home"), "VAGRANT_DOTFILE_PATH": str(tmp_path / "dot")}
    return subprocess.run(
        ["vagrant", "validate"],
        cwd=ROOT,
        env={**os.environ, **own, "VAGRANT_DEFAULT_PROVIDER": "libvirt", **environment},
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.mark.parametrize("driver", ["kvm", "qemu"])
def test_the_vagrantfile_is_valid_with_either_driver(tmp_path, driver):
    """CPU passed through and nested, or emulated."""
    done = validate(tmp_path, HARNESS_BOX_DRIVER=driver, HARNESS_BOX="labbox")
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_size_that_is_no_number_is_refused(tmp_path):
    """So that `validate` is seen to read our settings."""
    assert validate(tmp_path, HARNESS_BOX_CPUS="many").returncode != 0
