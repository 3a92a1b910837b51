"""QEMU is replaced, and the host around it breaks, or somebody else meddles in the window.

Requires: the session's lab, whose RAM folder is in memory. Leaves behind: nothing.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

import pytest

from harness.core.errors import HarnessError, UpdateFailed
from harness.core.timebase import SYSTEM_CLOCK, Deadline, NotYet, wait_for
from harness.host.parking import STATE, Berth
from harness.host.ram_folder import backing_folder
from harness.lab import daemon, state
from tests.drills.switch import Switch, persistent, restart_libvirtd, soon, virsh
from tests.residents import KEEP, Residents


@contextmanager
def libvirtd_killed_when(moment: Callable[[], None], late_s: float) -> Iterator[None]:
    """Meanwhile it is killed ``late_s`` after ``moment`` no longer raises NotYet, and restarted."""

    def kill() -> None:
        wait_for(moment, what="the moment", deadline=soon(), interval_s=0.001)
        SYSTEM_CLOCK.sleep(late_s)
        restart_libvirtd()

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        yield
    finally:
        killer.join()


@pytest.fixture(params=[False, True], ids=["transient", "persistent"])
def switch(request, resident, tmp_path):
    """One guest about to be parked, as a saved state or as a managed save."""
    if not request.param:
        yield Switch(resident, tmp_path)
        return
    with persistent():
        yield Switch(resident, tmp_path)


@pytest.mark.parametrize("late_s", [0.0, 0.1])
def test_libvirtd_is_killed_while_it_saves_the_state(switch, late_s):
    """The state is half written, or QEMU is about to end: the guest is where its files say."""
    switch.pause()
    saved = Path(switch.parking.files, STATE)
    if switch.parking.persistent:
        saved = Path("/var/lib/libvirt/qemu/save/res-1.save")

    def saving() -> None:
        if not saved.exists():
            raise NotYet("no state")

    with libvirtd_killed_when(saving, late_s), suppress(HarnessError):
        switch.swap.swap(switch.parking, soon())
    switch.resume()
    switch.assert_back()


@pytest.mark.parametrize("late_s", [0.0, 0.2])
def test_libvirtd_is_killed_while_it_restores_the_guest(switch, late_s):
    """It has a QEMU already, with its RAM; the libvirtd that comes next ends that."""
    switch.pause()
    status = Path("/run/libvirt/qemu/res-1.xml")

    def restoring() -> None:
        if not status.exists() or " pid='0'" in status.read_text()[:500]:
            raise NotYet("no QEMU")

    switch.libvirt.parking.park(switch.parking, soon())
    with libvirtd_killed_when(restoring, late_s), suppress(HarnessError):
        switch.libvirt.parking.unpark(switch.parking, soon(), new=True)
    switch.resume()
    switch.assert_back()


def test_what_is_kept_of_the_ram_is_removed_in_the_window(switch):
    """The RAM is on offer still, so it is kept again."""
    switch.pause()
    switch.libvirt.parking.park(switch.parking, soon())
    shutil.rmtree(Path(switch.parking.keep).parent)
    switch.resume()
    switch.assert_back()


def test_the_ram_folder_becomes_read_only_in_the_window(resident, tmp_path):
    """No QEMU can open its RAM: the guest stays parked, and comes back when that is mended."""
    switch = Switch(resident, tmp_path)
    folder = switch.parking.ram_folder
    switch.pause()
    switch.libvirt.parking.park(switch.parking, soon())
    everywhere("mount", "--bind", folder, folder)
    try:
        everywhere("mount", "-o", "remount,bind,ro", folder)
        with pytest.raises(HarnessError):
            switch.resume(patience_s=3.0)
        wait_for(partial(parked, switch), what="the last start's end", deadline=soon())
    finally:
        everywhere("umount", "--lazy", folder)
    switch.resume()
    switch.assert_back()


def parked(switch: Switch) -> None:
    found = switch.libvirt.parking.berth(switch.parking, soon())
    if found is not Berth.PARKED:
        raise NotYet(found)


def everywhere(*words: str) -> None:
    """Here, and where the lab's libvirtd sees its files."""
    libvirtd = state.load().daemons[-1].pid
    for where in ([], ["nsenter", "-t", str(libvirtd), "-m"]):
        subprocess.run([*where, *words], check=True)


@contextmanager
def full_files(switch: Switch) -> Iterator[None]:
    """The file system of a guest's state has no room, also not for libvirtd."""
    files = Path(switch.parking.files)
    everywhere("mount", "-t", "tmpfs", "-o", "size=64k,mode=0700", "full", str(files))
    for name, text in switch.texts.items():
        (files / name).write_text(text)
    try:
        yield
    finally:
        everywhere("umount", "--lazy", str(files))


@contextmanager
def read_only_files(switch: Switch) -> Iterator[None]:
    """Nothing can be written where a guest's state would be, also not by libvirtd."""
    files = switch.parking.files
    everywhere("mount", "--bind", files, files)
    try:
        everywhere("mount", "-o", "remount,bind,ro", files)
        yield
    finally:
        everywhere("umount", "--lazy", files)


@contextmanager
def no_links(switch: Switch) -> Iterator[None]:
    """Where RAM is kept, no file can be made any more."""
    folder = switch.parking.ram_folder
    about = os.statvfs(folder)

    def files(most: int) -> None:
        subprocess.run(["mount", "-o", f"remount,nr_inodes={most}", folder], check=True)

    files(about.f_files - about.f_ffree)
    try:
        yield
    finally:
        files(about.f_files)


@pytest.mark.parametrize("lack", [full_files, read_only_files, no_links])
def test_there_is_no_room_for_what_is_kept(resident, tmp_path, lack):
    """It cannot be parked: the guest stays in its QEMU, and nothing of its RAM is left."""
    switch = Switch(resident, tmp_path)
    switch.pause()
    with lack(switch), pytest.raises(UpdateFailed, match="could not be parked"):
        switch.swap.swap(switch.parking, soon())
    switch.resume()
    switch.assert_back()


def test_the_folder_of_the_state_is_removed_in_the_window(resident, tmp_path):
    """libvirt has a managed save of its own, which is enough; of RAM nothing is lost."""
    with persistent():
        switch = Switch(resident, tmp_path)
        switch.pause()
        switch.libvirt.parking.park(switch.parking, soon())
        shutil.rmtree(switch.parking.files)
        switch.resume()
        switch.assert_back()


@pytest.mark.parametrize(
    "words", [("managedsave-remove",), ("undefine", "--managed-save")], ids=["removed", "undefined"]
)
def test_a_stranger_removes_the_managed_save_in_the_window(resident, tmp_path, words):
    """There is a copy of it; the guest comes back with its RAM."""
    with persistent():
        switch = Switch(resident, tmp_path)
        switch.pause()
        switch.libvirt.parking.park(switch.parking, soon())
        virsh(words[0], "res-1", *words[1:])
        switch.resume()
        switch.assert_back()


def answers() -> None:
    if not daemon.answers("qemu:///system"):
        raise NotYet("no answer")


def boot_again(resident: Residents) -> None:
    """A cold boot, for the drills that come next."""
    virsh("start", "res-1")

    def log_in() -> None:
        try:
            resident.ssh("res-1", "true")
        except AssertionError as error:
            raise NotYet(str(error)) from error

    wait_for(log_in, what="booting", deadline=Deadline.after(60))
    resident.plant()


@contextmanager
def booted(resident: Residents) -> Iterator[None]:
    """The host is booted, as far as one guest can tell: its RAM and ``/run`` are gone."""
    ram = backing_folder()
    boot_id = Path("/proc/sys/kernel/random/boot_id")
    another = state.lab_dir() / "boot_id"
    another.write_text("00000000-0000-4000-8000-000000000000\n")
    shutil.rmtree("/run/harness")
    for folder in (ram / KEEP, *ram.glob("*-res-1")):
        shutil.rmtree(folder)
    restart_libvirtd()
    wait_for(answers, what="libvirtd", deadline=soon())
    subprocess.run(["mount", "--bind", str(another), str(boot_id)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", str(boot_id)], check=True)


def test_the_host_is_booted_while_a_guest_is_parked(resident, dies):
    """A cold boot is all that is left: its managed save is removed, nothing is said of its RAM."""
    with persistent():
        run = dies("parked", both=True)
        with booted(resident):
            assert "res-1" in virsh("list", "--all", "--with-managed-save", "--name")
            code, (guest,) = run.recover()
        assert (code, guest["action"]) == (0, "has ended"), guest
        assert "the host was booted while it was parked" in guest["why"]
        assert "res-1" not in virsh("list", "--all", "--with-managed-save", "--name")
        boot_again(resident)
    resident.assert_tidy()
