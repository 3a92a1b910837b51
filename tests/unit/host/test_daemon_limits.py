"""What libvirt's daemon takes: asked by a program of libvirt's, else read in its configuration."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from harness.core.headroom import Limit
from harness.host.daemon_limits import daemon_limits

CLIENTS = "nclients_max        : 8\nnclients            : 3\nnclients_unauth_max : 2\n"
WORKERS = "minWorkers     : 5\nmaxWorkers     : 7\n"


class Place:
    """A host's folders, and a virt-admin that answers as told."""

    def __init__(self, root: Path) -> None:
        self.run, self.etc, self.bin = (root / name for name in ("run", "etc", "bin"))
        for folder in (self.run / "libvirt", self.etc / "libvirt", self.bin):
            folder.mkdir(parents=True)

    def socket(self, name: str) -> None:
        (self.run / "libvirt" / name).touch()

    def virt_admin(self, script: str) -> None:
        program = self.bin / "virt-admin"
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)

    def answers(self, daemon: str) -> None:
        """Only that daemon does."""
        self.virt_admin(
            f'[ "$1 $2" = "--connect {daemon}:///system" ] || exit 1\n'
            f'case "$3" in "server-clients-info {daemon}; "*) printf "{CLIENTS}";; esac\n'
            f'case "$3" in *"; server-threadpool-info {daemon}") printf "{WORKERS}";; esac'
        )

    def look(self, uri: str = "qemu:///system"):
        return daemon_limits(uri, self.run, self.etc)


@pytest.fixture
def place(tmp_path, monkeypatch):
    found = Place(tmp_path)
    monkeypatch.setenv("PATH", f"{found.bin}:{os.environ['PATH']}")
    return found


@pytest.mark.parametrize(
    ("daemon", "socket"),
    [("libvirtd", "libvirt-admin-sock"), ("virtqemud", "virtqemud-admin-sock")],
)
def test_the_daemon_is_asked(place, daemon, socket):
    """How many it takes, less those that are there."""
    place.socket(socket)
    place.answers(daemon)
    found = place.look()
    assert (found.daemon, found.workers) == (daemon, 7)
    assert found.connections == Limit(5, f"max_clients of {daemon}, which is 8")


def test_a_modular_daemon_that_does_not_answer_is_not_the_one(place):
    """Its socket may be left of another time."""
    place.socket("libvirt-admin-sock")
    place.socket("virtqemud-admin-sock")
    place.answers("libvirtd")
    assert place.look().daemon == "libvirtd"


@pytest.mark.parametrize("says", ["exit 1", "echo nclients_max : many", "echo x; exit 0"])
def test_who_may_not_ask_reads_the_configuration(place, says):
    """A comment sets nothing."""
    place.socket("libvirt-admin-sock")
    place.virt_admin(says)
    file = place.etc / "libvirt/libvirtd.conf"
    assert place.look() is None
    file.write_text("#max_clients = 5000\nmax_workers = 3\n")
    assert (place.look().connections, place.look().workers) == (None, 3)
    file.write_text('max_clients = 9  # few\nlisten_addr = "max_clients = 4"\n')
    assert place.look().connections == Limit(9, f"max_clients in {file}, which is 9")


@pytest.mark.parametrize(
    "uri",
    ["qemu+ssh://other/system", "qemu:///system?socket=/x", "test:///default", "qemu:///embed"],
)
def test_of_another_host_or_driver_nothing_is_known(place, uri):
    """The admin interface is a socket of this machine."""
    place.socket("libvirt-admin-sock")
    place.answers("libvirtd")
    assert place.look(uri) is None


def test_the_daemon_of_a_session_has_folders_of_its_own(place, monkeypatch):
    """Those of the user."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(place.run))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(place.etc))
    place.socket("libvirt-admin-sock")
    place.virt_admin("exit 1")
    (place.etc / "libvirt/libvirtd.conf").write_text("max_clients = 9\n")
    assert place.look("qemu:///session").connections.left == 9


def test_where_there_is_no_daemon_nothing_is_known(place):
    """Nor anything raised."""
    assert place.look() is None
