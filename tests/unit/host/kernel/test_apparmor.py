"""libvirtd is confined before it starts, by the program and the profiles of their packages."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.core.errors import InfrastructureError
from harness.core.timebase import Deadline
from harness.host.kernel import apparmor, early
from tests.unit.host.kernel.test_early import told  # noqa: F401


@pytest.fixture
def profiles(tmp_path, monkeypatch):
    """A folder of them, on a host that shows the kernel's own already."""
    monkeypatch.setattr(apparmor, "_SECURITY", Path("/proc"))
    (tmp_path / apparmor.DAEMON).touch()
    return tmp_path


def test_the_profiles_that_are_there_are_loaded(told, profiles):  # noqa: F811
    """The helper's is its own only in newer packages."""
    log = told("apparmor_parser")
    apparmor.confine_libvirtd(Deadline.after(5), profiles)
    (profiles / apparmor.HELPER).touch()
    apparmor.confine_libvirtd(Deadline.after(5), profiles)
    both = f"{profiles}/{apparmor.DAEMON} {profiles}/{apparmor.HELPER}"
    assert log.read_text().splitlines() == [
        f"--replace {profiles}/{apparmor.DAEMON}",
        f"--replace {both}",
    ]


def test_the_kernel_is_asked_to_show_its_own_where_nothing_has_yet(told, profiles, monkeypatch):  # noqa: F811
    """systemd would have."""
    told("apparmor_parser")
    mounted = []
    monkeypatch.setattr(apparmor, "_SECURITY", profiles)
    monkeypatch.setattr(early, "mount", lambda *words: mounted.append(words))
    apparmor.confine_libvirtd(Deadline.after(5), profiles)
    assert mounted == [("securityfs", profiles, "securityfs")]


def test_a_profile_that_is_refused_is_told(told, profiles):  # noqa: F811
    told("apparmor_parser", 1)
    with pytest.raises(InfrastructureError, match="apparmor_parser: refused"):
        apparmor.confine_libvirtd(Deadline.after(5), profiles)


def test_what_is_not_there_is_known_beforehand(told, profiles, monkeypatch):  # noqa: F811
    """The program by the path that the next kernel's first program has, and the profile."""
    program = told("apparmor_parser").parent / "bin"
    monkeypatch.setattr(apparmor, "PATH", "/nowhere")
    assert apparmor.missing(profiles) == "no apparmor_parser"
    monkeypatch.setattr(apparmor, "PATH", str(program))
    assert apparmor.missing(profiles) == ""
    assert apparmor.missing(profiles / "none") == f"no {profiles}/none/usr.sbin.libvirtd"
