"""``up``, ``cut`` and ``down``: a box that answers SSH, one without power, and no trace of it."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from harness.core.errors import (
    DeadlineExpired,
    HarnessError,
    LabError,
    MissingCapability,
    UsageError,
)
from harness.core.files import last_lines, private_folder
from harness.core.identity import boot_id
from harness.core.timebase import Deadline, Stopwatch, wait_for
from harness.host.accelerator import resolve
from harness.lab import detached
from harness.lab.box import qemu, ssh, state
from harness.lab.box.checkout import pack
from harness.lab.box.state import BoxState, box_dir
from harness.lab.images import Image, ensure
from harness.lab.inputs import checkout
from harness.lab.keys import new_key
from harness.lab.seed import Seed, append_to_initrd
from harness.lab.ssh_banner import console_hint, expect_ssh_banner

Progress = Callable[[str], None]

IMAGE = "labbox"
_ATTEMPT_S = 20.0
#: What was in the checkout and is no longer must not be found in the box either.
_UNPACK = (
    "cd /opt/harness && rm -rf harness vm-images scripts tests benchmarks && tar -xf -"
    " && systemctl start libvirtd.service"
)


@dataclass(frozen=True)
class Size:
    """What of this machine a box may have."""

    cpus: int | None = None
    """None: as many as are good for the accelerator."""
    memory_mib: int = 3072


def up(
    size: Size, *, deadline: Deadline, progress: Progress, accelerator: str = "auto"
) -> BoxState:
    """Boot the box, wait until it answers SSH, bring the checkout into it, start its libvirtd.

    A box whose power was cut boots again from its own disk, with its keys and sizes. Raises
    UsageError if it is up already. A box that is new is removed again after any failure.
    """
    with state.claimed():
        box = state.load()
        if box is not None and qemu.lives(box):
            raise UsageError("the box is up already", hint="harness lab box ssh, or down")
        if box is not None and Path(box.image).is_dir():
            return _boot(replace(box, port=qemu.free_port()), deadline, progress)
        state.forget()
        box = _make(size, resolve(accelerator).accelerator, progress)
        try:
            return _boot(box, deadline, progress)
        except BaseException:
            progress("cleaning up")
            with suppress(HarnessError):  # the first error is the one to tell
                _remove(state.load())
            raise


def _make(size: Size, accelerator: str, progress: Progress) -> BoxState:
    """Keys, initrd and disk of a new box."""
    image = ensure(IMAGE, progress)
    folder = box_dir()
    private_folder(folder, new=True)
    user_key, host_key = new_key(), new_key()
    state.identity_file().touch(mode=0o600)
    state.identity_file().write_text(user_key.private)
    (folder / "host_key.pub").write_text(host_key.public)
    kernel, initrd, disk = _parts(image)
    (folder / "initrd").touch(mode=0o600)  # it holds the box's host key
    append_to_initrd(initrd, Seed("harness-box", host_key, user_key.public), folder / "initrd")
    _overlay(disk, folder / "disk.qcow2")
    box = BoxState(
        image=str(kernel.parent),
        accelerator=accelerator,
        cpus=size.cpus or qemu.CPUS[accelerator],
        memory_mib=size.memory_mib,
        port=qemu.free_port(),
        boot_id=boot_id(),
    )
    state.save(box)
    return box


def _parts(image: Image) -> tuple[Path, Path, Path]:
    if image.kernel is None or image.initrd is None or image.disk is None:
        raise LabError(f"the image {image.name} is not complete", hint="remove it from the cache")
    return image.kernel, image.initrd, image.disk


def _overlay(base: Path, target: Path) -> None:
    words = ["qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", str(base), str(target)]
    try:
        subprocess.run(words, check=True, capture_output=True, stdin=subprocess.DEVNULL)
    except FileNotFoundError as error:
        raise MissingCapability(
            "qemu-img", "qemu-img is not installed", hint="make setup"
        ) from error
    except subprocess.CalledProcessError as error:
        said = error.stderr.decode(errors="replace").strip()
        raise LabError(f"cannot make the box's disk: {said}") from error


def _boot(box: BoxState, deadline: Deadline, progress: Progress) -> BoxState:
    watch, folder = Stopwatch(), box_dir()
    name = f"[{state.HOST}]:{box.port}"
    state.known_hosts().write_text(f"{name} {(folder / 'host_key.pub').read_text()}\n")
    progress(f"booting the box ({box.accelerator}, {box.cpus} CPUs, {box.memory_mib} MiB)")
    words = qemu.command(box, Path(box.image, "kernel"), folder)
    started = detached.start(words, state.qemu_log(), truncate=True)
    box = replace(box, pid=started.pid, start_ticks=started.start_ticks, boot_id=boot_id())
    state.save(box)
    _wait_for_ssh(box, deadline)
    progress(f"the box answers SSH after {watch.elapsed_s():.0f} s")
    bring_checkout(box, deadline)
    progress(f"the box is ready after {watch.elapsed_s():.0f} s")
    return box


def bring_checkout(box: BoxState, deadline: Deadline) -> None:
    """What runs in the box is what is in this checkout now. Raises LabError."""
    archive = box_dir() / "checkout.tar"
    pack(checkout(), archive)
    ssh.execute(box, _UNPACK, deadline, archive)


def _wait_for_ssh(box: BoxState, deadline: Deadline) -> None:
    def look() -> None:
        if not qemu.lives(box):
            said = last_lines(state.qemu_log(), 3) or "nothing"
            raise LabError(f"the box's QEMU has ended: {said}", hint="is its memory available?")
        expect_ssh_banner(state.HOST, box.port, _ATTEMPT_S)

    try:
        wait_for(look, what="booting the box", deadline=deadline, interval_s=0.5)
    except DeadlineExpired as error:
        raise LabError(f"the box {error.message}", hint=console_hint(state.serial_log())) from error


def running() -> BoxState:
    """The box that is up. Raises UsageError if none is."""
    box = state.load()
    if box is None or not qemu.lives(box):
        raise UsageError("no box is up", hint="harness lab box up")
    return box


def cut(progress: Progress) -> None:
    """Cut its power: QEMU ends at once, the disk stays, and ``up`` boots it again."""
    with state.claimed():
        qemu.end(running(), at_once=True)
        progress("the box has no power (harness lab box up gives it back)")


def down(progress: Progress) -> None:
    """Remove every trace of the box, its disk with it. Idempotent."""
    with state.claimed():
        _remove(state.load())
        progress("the box is down")


def _remove(box: BoxState | None) -> None:
    if box is not None:
        qemu.end(box)
    state.forget()
