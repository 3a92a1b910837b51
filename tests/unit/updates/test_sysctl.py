"""Kernel settings, in a folder that plays /proc/sys; see tests/kvm for the real one."""

from __future__ import annotations

import os

import pytest

from harness.core.errors import ConfigError, MissingCapability, UpdateFailed, UpdateOverran
from harness.core.settings import Scope
from harness.core.timebase import Deadline
from harness.updates.protocol import UpdateContext
from harness.updates.sysctl import SysctlSettings, SysctlUpdate


@pytest.fixture
def root(tmp_path, monkeypatch):
    """Two settings, one of them of several numbers."""
    root = tmp_path / "sys"
    (root / "vm").mkdir(parents=True)
    (root / "net" / "eth0.1").mkdir(parents=True)
    (root / "vm" / "swappiness").write_text("60\n")
    (root / "net" / "eth0.1" / "mem").write_text("1\t2\t3\n")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    return root


@pytest.fixture
def context(tmp_path):
    return UpdateContext("run-1", tmp_path, "0", (), tmp_path, 30.0)


def update(root, *words: str, **settings) -> SysctlUpdate:
    return SysctlUpdate(SysctlSettings(sysctl=words, **settings), root=root)


def soon() -> Deadline:
    return Deadline.after(20)


def both(root) -> SysctlUpdate:
    return update(root, "vm.swappiness = 10", "net/eth0.1/mem=4 5 6")


def test_settings_are_set_verified_and_put_back(root, context):
    """Each in its file, read back as the kernel writes it; the old values come back."""
    one = both(root)
    one.check()
    one.prepare(context, soon())
    applied = one.apply(context, soon())
    assert applied.detail == "vm.swappiness 60 → 10, net/eth0.1/mem 1 2 3 → 4 5 6"
    assert (root / "vm" / "swappiness").read_text() == "10\n"
    (root / "net" / "eth0.1" / "mem").write_text("4\t5\t6\n")
    one.verify(context, soon())
    one.rollback(context, soon())
    assert (root / "vm" / "swappiness").read_text() == "60\n"
    assert (root / "net" / "eth0.1" / "mem").read_text().split() == ["1", "2", "3"]


def test_verify_finds_another_value(root, context):
    """The kernel may round, or somebody else may have set it since."""
    one = both(root)
    one.prepare(context, soon())
    one.apply(context, soon())
    (root / "vm" / "swappiness").write_text("11\n")
    with pytest.raises(UpdateFailed, match="vm.swappiness is '11', not '10'"):
        one.verify(context, soon())


def test_what_cannot_be_set_leaves_the_rest_to_the_rollback(root, context):
    """The second of two fails; the first is put back."""
    one = both(root)
    one.prepare(context, soon())
    (root / "net" / "eth0.1" / "mem").unlink()
    (root / "net" / "eth0.1" / "mem").mkdir()
    with pytest.raises(UpdateFailed, match="cannot set net/eth0.1/mem"):
        one.apply(context, soon())
    (root / "net" / "eth0.1" / "mem").rmdir()
    (root / "net" / "eth0.1" / "mem").write_text("1 2 3\n")
    one.rollback(context, soon())
    assert (root / "vm" / "swappiness").read_text() == "60\n"


def test_abandoned_or_too_late_means_not_set(root, context):
    """And the same update serves the next domain."""
    one = both(root)
    one.prepare(context, soon())
    one.abandon()
    with pytest.raises(UpdateFailed, match="abandoned before vm.swappiness was set"):
        one.apply(context, soon())
    one.prepare(context, soon())
    with pytest.raises(UpdateOverran):
        one.apply(context, Deadline.after(0))
    assert (root / "vm" / "swappiness").read_text() == "60\n"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "needs settings"),
        (("vm.swappiness",), "is not name=value"),
        (("vm.swappiness=",), "is not name=value"),
        (("vm.swappiness=1", "vm.swappiness=2"), "is there twice"),
        (("vm.swapiness=1",), "vm.swapiness: this kernel has no such setting"),
        (("vm=1",), "vm: this kernel has no such setting"),
        (("../etc/passwd=1",), "is no name of a setting"),
        (("vm..swappiness=1",), "is no name of a setting"),
        (("vm.readonly=1",), "vm.readonly cannot be written here"),
    ],
)
def test_bad_settings_are_refused(root, words, message):
    """Before anybody is paused, with the key."""
    (root / "vm" / "readonly").write_text("1\n")
    (root / "vm" / "readonly").chmod(0o444)
    with pytest.raises(ConfigError, match=f"update.sysctl: .*{message}"):
        update(root, *words).check()


def test_what_cannot_be_undone_is_refused(root, monkeypatch):
    """Some settings can be written only."""
    real = type(root).read_text

    def read_text(self, *args, **more):
        if self.name == "swappiness":
            raise PermissionError(1, "Operation not permitted")
        return real(self, *args, **more)

    monkeypatch.setattr(type(root), "read_text", read_text)
    with pytest.raises(ConfigError, match="cannot be read, so it could not be undone"):
        both(root).check()


def test_it_is_for_the_whole_host_and_for_root(root, monkeypatch):
    one = both(root)
    assert (one.scope, one.preserves_memory, one.expected_s) == (Scope.HOST, True, 1.0)
    assert one.expected_from == "the default of kind sysctl"
    with pytest.raises(ConfigError, match="update.scope"):
        update(root, "vm.swappiness=1", scope=Scope.GUEST)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(MissingCapability, match="needs root"):
        one.check()
