"""Renewing libvirt, with a systemctl that is played and a hypervisor in memory; real: tests/kvm."""

from __future__ import annotations

import os

import pytest

from harness.core.errors import (
    ConfigError,
    ConnectionLost,
    GuestNotFound,
    MissingCapability,
    UpdateFailed,
)
from harness.core.settings import Scope
from harness.core.timebase import Deadline, Stopwatch
from harness.host.lifecycle import GuestState
from harness.testing.hypervisor import FakeHypervisor
from harness.updates.libvirtd import LibvirtSettings, LibvirtUpdate
from harness.updates.protocol import Site, UpdateContext

#: $FAKE/SERVICE holds the pid of a service; a restart adds one to it, unless it is `stuck`. What
#: systemd thinks of it is in `state`.
SYSTEMCTL = """
for service; do :; done
echo "$*" >>calls
case $1 in
show)
    echo "MainPID=$(cat "$service" 2>/dev/null || echo 0)"
    echo "ActiveState=$(cat state 2>/dev/null || echo active)";;
restart) [ ! -e broken ] || exit 1; [ -e stuck ] || echo $(($(cat "$service") + 1)) >"$service";;
esac
"""


class Daemon:
    """Opens connections, as long as it answers."""

    def __init__(self) -> None:
        self.answers = True
        self.states = {"web1": GuestState.RUNNING}

    def open(self, uri: str, deadline: Deadline) -> FakeHypervisor:
        if not self.answers:
            raise ConnectionLost("connecting: refused", operation="connecting")
        hypervisor = FakeHypervisor(self.states)
        hypervisor.close = lambda: None
        return hypervisor


@pytest.fixture
def fake(tmp_path, monkeypatch):
    """A host whose libvirtd has pid 100."""
    home = tmp_path / "fake"
    home.mkdir()
    (home / "systemctl").write_text(f"#!/bin/sh\ncd {home}\n{SYSTEMCTL}")
    (home / "systemctl").chmod(0o755)
    (home / "libvirtd.service").write_text("100\n")
    monkeypatch.setenv("PATH", f"{home}:{os.environ['PATH']}")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setenv("SUDO_UID", str(os.getuid()))  # whose files these are
    return home


@pytest.fixture
def context(tmp_path):
    (tmp_path / "run").mkdir()
    return UpdateContext(f"run-{tmp_path.name}", tmp_path / "run", "0", ("web1",), tmp_path, 30.0)


@pytest.fixture
def daemon():
    return Daemon()


def soon() -> Deadline:
    return Deadline.after(20)


def update(daemon, uri: str = Site.uri, **settings) -> LibvirtUpdate:
    return LibvirtUpdate(LibvirtSettings(**settings), Site(uri), daemon.open)


def prepared(daemon, context) -> LibvirtUpdate:
    one = update(daemon)
    one.check()
    one.prepare(context, soon())
    return one


def test_the_daemon_is_restarted_and_proven(fake, context, daemon):
    """Another process, which answers and knows the guests."""
    one = prepared(daemon, context)
    assert one.warnings == ("libvirtd.service is restarted: every other connection to it is lost",)
    assert one.apply(context, soon()).detail == "libvirtd.service restarted"
    one.verify(context, soon())
    assert (fake / "libvirtd.service").read_text() == "101\n"


def test_the_daemon_for_qemu_alone_is_preferred(fake, context, daemon):
    """Newer installations have it, and libvirtd may be there besides."""
    (fake / "virtqemud.service").write_text("200\n")
    prepared(daemon, context).apply(context, soon())
    assert (fake / "virtqemud.service").read_text() == "201\n"
    assert (fake / "libvirtd.service").read_text() == "100\n"


def test_one_that_its_package_restarted_is_not_restarted_again(fake, context, daemon):
    """Each restart is a part of the pause."""
    one = prepared(daemon, context)
    (fake / "libvirtd.service").write_text("150\n")
    one.apply(context, soon())
    one.verify(context, soon())
    assert (fake / "libvirtd.service").read_text() == "150\n"


def test_verify_is_not_told_but_looks(fake, context, daemon):
    """The same process; no process; a guest that is gone; one that is paused."""
    one = prepared(daemon, context)
    one.apply(context, soon())
    (fake / "libvirtd.service").write_text("100\n")
    with pytest.raises(UpdateFailed, match="was not restarted"):
        one.verify(context, soon())
    (fake / "libvirtd.service").write_text("0\n")
    with pytest.raises(UpdateFailed, match="was not restarted"):
        one.verify(context, soon())
    (fake / "libvirtd.service").write_text("101\n")
    daemon.states = {"web1": GuestState.PAUSED}
    with pytest.raises(UpdateFailed, match="libvirt says that web1 is paused"):
        one.verify(context, soon())
    daemon.states = {}
    with pytest.raises(GuestNotFound, match="web1"):
        one.verify(context, soon())


def test_a_daemon_that_does_not_answer_is_brought_back_in_the_window(fake, context, daemon):
    """Without it nobody could resume the guests; nobody waits for the rollback after the resume."""
    one = prepared(daemon, context)
    daemon.answers = False
    with pytest.raises(UpdateFailed, match="does not answer after the rollback"):
        one.apply(context, Deadline.after(0.8))
    changes = [c for c in (fake / "calls").read_text().splitlines() if not c.startswith("show")]
    assert changes == [
        "restart --no-block libvirtd.service",
        "kill --kill-who=main --signal=KILL libvirtd.service",
        "reset-failed libvirtd.service",
        "start libvirtd.service",
    ]


def test_the_old_daemon_is_not_taken_for_the_new_one(fake, context, daemon):
    """systemd has only been asked to restart it; one that does not let go is killed."""
    one = prepared(daemon, context)
    (fake / "stuck").touch()
    with pytest.raises(UpdateFailed, match="^libvirtd.service does not answer"):
        one.apply(context, Deadline.after(0.8))
    said = (fake / "calls").read_text().splitlines()
    assert "kill --kill-who=main --signal=KILL libvirtd.service" in said


def test_a_daemon_that_systemd_has_given_up_is_not_waited_for(fake, context, daemon):
    """Half of the time that is left would be a part of the pause, for nothing."""
    one = prepared(daemon, context)
    daemon.answers = False
    (fake / "state").write_text("failed\n")
    watch = Stopwatch()
    with pytest.raises(UpdateFailed, match="does not answer after the rollback"):
        one.apply(context, soon())
    assert watch.elapsed_s() < 8


def test_a_failed_restart_with_a_daemon_that_answers_waits_for_the_rollback(fake, context, daemon):
    """The guests come first, and libvirt can resume them."""
    one = prepared(daemon, context)
    (fake / "broken").touch()
    with pytest.raises(UpdateFailed, match="systemctl ended with status 1"):
        one.apply(context, soon())
    assert "start" not in (fake / "calls").read_text().replace("restart", "")
    one.rollback(context, soon())
    assert (fake / "calls").read_text().splitlines()[-1] == "start libvirtd.service"


def test_what_was_abandoned_is_not_brought_back_behind_the_windows_back(fake, context, daemon):
    """The rollback comes after the resume, and alone."""
    one = prepared(daemon, context)
    one.abandon()
    daemon.answers = False
    with pytest.raises(UpdateFailed, match="abandoned before systemctl was started"):
        one.apply(context, Deadline.after(0.8))
    assert "start libvirtd.service" not in (fake / "calls").read_text().splitlines()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"uri": "qemu+ssh://host/system"}, "changes this machine, but the guests are at"),
        ({"uri": "qemu:///session"}, "is not the daemon of this host"),
        ({"scope": Scope.GUEST}, "update.scope"),
        ({"hold": ("x",)}, "update.hold: needs packages"),
        ({"reinstall": True}, "update.reinstall: needs packages"),
    ],
)
def test_bad_settings_are_refused(fake, daemon, settings, words):
    with pytest.raises(ConfigError, match=words):
        update(daemon, **settings).check()


def test_a_libvirt_that_systemd_does_not_run_is_left_alone(fake, daemon):
    """The lab of a machine without systemd starts its own."""
    (fake / "libvirtd.service").unlink()
    with pytest.raises(MissingCapability, match="systemd runs none of"):
        update(daemon).check()
