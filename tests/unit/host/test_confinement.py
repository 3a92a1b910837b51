"""AppArmor's profile of one guest: rules for it alone, there for the time of a replacement."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from harness.core.errors import InfrastructureError
from harness.host import confinement
from tests.unit.maintenance.pause.test_parking import parking

TEMPLATE = """
#include <tunables/global>

profile libvirt-uuid-a flags=(attach_disconnected) {
  #include <abstractions/libvirt-qemu>
  /srv/mine/** r,

}
"""


@pytest.fixture
def profile(tmp_path, monkeypatch) -> Path:
    monkeypatch.setattr(confinement, "PROFILES", tmp_path)
    file = tmp_path / "libvirt-uuid-a"
    file.write_text(TEMPLATE)
    return file


def guest(**changes):
    given = {"ram_folder": "/ram", "short_name": "a", "commands": "/links/uuid-a"}
    return replace(parking("a"), **{**given, **changes})


def test_rules_stand_in_the_guests_profile_once_and_go_again(profile):
    """What the owner has written there stays."""
    for _ in range(2):
        confinement.admit(guest())
    text = profile.read_text()
    assert text.count("harness: begin") == 1
    assert '}-a/{,**}" rwk,' in text
    assert '"/run/harness/qemu/uuid-a" rw,' in text
    assert "/srv/mine/** r," in text
    assert text.rstrip().endswith("}")
    confinement.dismiss(guest())
    assert profile.read_text() == TEMPLATE


def test_a_guest_without_a_profile_is_not_confined(profile):
    """Nothing is made for it."""
    profile.unlink()
    confinement.admit(guest())
    confinement.dismiss(guest())
    assert list(profile.parent.iterdir()) == []


def test_a_profile_that_cannot_be_changed_is_told(profile):
    """By its name."""
    profile.unlink()
    profile.mkdir()
    with pytest.raises(InfrastructureError, match="libvirt-uuid-a"):
        confinement.admit(guest())


def test_a_guest_that_is_copied_may_read_its_state(profile):
    """libvirt itself makes the folder of its RAM, and allows it that."""
    confinement.admit(guest(copied=True, keep="/ram/harness-keep/uuid-a"))
    text = profile.read_text()
    assert '"/ram/harness-keep/uuid-a/state" r,' in text
    assert "rwk" not in text


def test_a_qemu_that_is_not_installed_may_be_started(profile):
    """With its firmware and its modules, of its own folder."""
    confinement.admit(guest(trees=("/opt/qemu-7.2",)))
    text = profile.read_text()
    assert '"/opt/qemu-7.2/{,**}" rm,' in text
    assert '"/opt/qemu-7.2/usr/bin/qemu-system-*" rmix,' in text


def test_no_name_is_a_rule():
    """Signs that AppArmor knows match themselves, or one sign, and nothing more."""
    assert confinement.pattern('a"{b}*[c]^,@{d}') == "a??b???c?????d?"
    assert confinement.pattern("ä") == "??"


@pytest.mark.skipif(shutil.which("apparmor_parser") is None, reason="needs apparmor_parser")
def test_the_rules_are_ones_for_apparmor(profile):
    """Its own parser reads them."""
    confinement.admit(guest(trees=("/opt/x",)))
    text = "".join(
        line for line in profile.read_text().splitlines(True) if not line.strip().startswith("#i")
    )
    words = ["apparmor_parser", "--skip-kernel-load", "--skip-cache"]
    done = subprocess.run(words, input=text, text=True, capture_output=True)
    assert done.returncode == 0, done.stderr
