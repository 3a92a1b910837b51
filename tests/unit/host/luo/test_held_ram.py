"""RAM without a name: by a link to a process's descriptor, and by a process that holds it."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from harness.core.errors import InfrastructureError
from harness.host import ram_links
from harness.host.luo import held_ram
from harness.host.parked_files import let_go
from harness.host.parking import ProcessIdentity
from tests.unit.updates.kernel.test_plan import GUEST

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="a keeper is started as another user")
USER = GROUP = 65534
OWN = Path("/proc/self/oom_score_adj").read_text().strip()


@pytest.fixture
def ram(tmp_path):
    """An instance's folder with its RAM in it, a descriptor of that, and what it is."""
    instance = tmp_path / "1-web"
    instance.mkdir()
    path = instance / "pc.ram"
    path.write_bytes(b"content")
    file = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    yield path, file, ram_links.identity(os.fstat(file))
    os.close(file)


@pytest.fixture
def keeper(ram):
    path, file, _ = ram
    found = held_ram.Keeper({path.name: file}, USER, GROUP)
    yield found
    found._process.kill()
    found._process.wait()


def test_ram_loses_its_name_and_is_the_same_by_the_link(ram):
    """A session takes no file that has a name in a folder."""
    path, file, identity = ram
    assert not held_ram.is_held(path)
    own = held_ram.descriptor_of(os.getpid(), identity)
    held_ram.take_name(path, own)
    assert os.fstat(file).st_nlink == 0
    assert held_ram.is_held(path)
    assert path.read_bytes() == b"content"
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        assert ram_links.identity(held_ram.about(folder, path.name)) == identity
    finally:
        os.close(folder)


def test_a_link_to_anything_else_is_a_link(tmp_path):
    """A folder of QEMU's user may lead wherever that user likes."""
    (tmp_path / "target").write_text("x")
    (tmp_path / "link").symlink_to(tmp_path / "target")
    folder = os.open(tmp_path, os.O_RDONLY)
    try:
        assert held_ram.about(folder, "link").st_ino != os.stat(tmp_path / "target").st_ino
    finally:
        os.close(folder)
    assert not held_ram.is_held(tmp_path / "link")
    assert not held_ram.is_held(tmp_path / "none")


def test_who_does_not_hold_it_is_told(ram):
    """As is a process that has gone."""
    with pytest.raises(InfrastructureError, match="does not hold its RAM 1:2 open"):
        held_ram.descriptor_of(os.getpid(), "1:2")
    with pytest.raises(InfrastructureError, match="does not hold"):
        held_ram.descriptor_of(2**22 - 1, ram[2])
    with pytest.raises(InfrastructureError, match="No such file"):
        held_ram.take_name(Path("/nonexistent/pc.ram"), "/proc/1/fd/1")


def test_a_keeper_is_qemus_users_and_holds_ram_that_nobody_else_has(ram, keeper):
    """The kernel ends any other process before it; nothing reaches it from our terminal."""
    path, _, identity = ram
    about = Path(f"/proc/{keeper.pid}")
    assert (about.stat().st_uid, about.stat().st_gid) == (USER, GROUP)
    assert (about / "oom_score_adj").read_text().strip() in ("-1000", OWN)  # where it may not
    assert os.getsid(keeper.pid) == keeper.pid
    held = keeper.held[path.name]
    path.unlink()
    assert Path(held).read_bytes() == b"content"
    assert ram_links.identity(os.stat(held)) == identity


def test_kept_ram_is_offered_by_links_and_gone_with_its_keeper(ram, keeper, tmp_path):
    """Like RAM with a name; what is not that very file is refused."""
    path, _, identity = ram
    keep, names = tmp_path / ram_links.KEEP / "uuid", {path.name: identity}
    ram_links.make_keep(keep)
    with pytest.raises(InfrastructureError, match="not the guest's RAM"):
        ram_links.lay_held(keep, keeper.held, {path.name: "1:2"})
    ram_links.remove_keep(keep)
    ram_links.make_keep(keep)
    ram_links.lay_held(keep, keeper.held, names)
    ram_links.hold(keep, path.parent, names)  # as for any guest, when it is parked
    assert os.readlink(keep / "ram" / path.name) == keeper.held[path.name]
    ram_links.offer(keep, tmp_path, "web", (1, 2), names)
    offered = tmp_path / "2-web" / path.name
    assert os.readlink(offered) == keeper.held[path.name]
    assert (offered.parent.stat().st_uid, offered.parent.stat().st_mode & 0o777) == (0, 0o700)
    assert ram_links.held(keep, names)
    assert held_ram.keepers(keep / "ram") == {keeper.pid}
    ram_links.withdraw(tmp_path, "web", names)
    assert not offered.exists()
    path.unlink(missing_ok=True)
    held_ram.dismiss(keeper.pid)
    keeper._process.wait(10)
    assert not ram_links.held(keep, names)


def test_no_other_process_is_taken_for_a_keeper(tmp_path):
    """A pid may be another's by now."""
    (tmp_path / "pc.ram").symlink_to(f"/proc/{os.getpid()}/fd/0")
    (tmp_path / "other").symlink_to("/etc/passwd")
    (tmp_path / "file").touch()
    assert held_ram.keepers(tmp_path) == set()
    assert held_ram.keepers(tmp_path / "none") == set()
    held_ram.dismiss(os.getpid())


def test_ram_is_given_to_qemus_user_alone(ram):
    """What a session gives back is root's, and open to all."""
    path, file, _ = ram
    path.chmod(0o777)
    held_ram.own(file, USER, GROUP)
    assert (path.stat().st_uid, path.stat().st_gid) == (USER, GROUP)
    assert path.stat().st_mode & 0o7777 == 0o600
    with pytest.raises(InfrastructureError, match="cannot be given"):
        held_ram.own(-1, USER, GROUP)


def test_a_keeper_that_cannot_be_started_is_told(ram, monkeypatch):
    """Nobody is parked then."""
    monkeypatch.setattr(held_ram, "_KEEPER", ("/nonexistent/sleep", "infinity"))
    with pytest.raises(InfrastructureError, match="no process to hold RAM"):
        held_ram.Keeper({"pc.ram": ram[1]}, USER, GROUP)


def test_when_a_guest_is_settled_its_qemu_alone_holds_its_ram(ram, keeper, tmp_path):
    """Or nobody, where it has none: RAM of a guest that has ended is memory again."""
    path, file, identity = ram
    keep, names = tmp_path / ram_links.KEEP / "uuid", {path.name: identity}
    parking = replace(GUEST, keep=str(keep), ram=names)
    let_go(parking, None, None)  # nothing is kept, or not by a keeper
    ram_links.make_keep(keep)
    ram_links.lay_held(keep, keeper.held, names)
    let_go(parking, ProcessIdentity(os.getpid(), 1), path.parent)
    keeper._process.wait(10)
    assert os.readlink(path) == f"/proc/{os.getpid()}/fd/{file}"
    another = held_ram.Keeper({path.name: file}, USER, GROUP)
    ram_links.remove_keep(keep)
    ram_links.make_keep(keep)
    ram_links.lay_held(keep, another.held, names)
    let_go(parking, None, None)
    assert another._process.wait(10) != 0
