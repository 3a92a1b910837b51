"""Hard links that keep a guest's RAM while it has no QEMU, and offer it to the next one.

libvirt gives each instance of a guest a folder ``<id>-<name>`` for its RAM files, deletes it when
that instance ends, and makes nothing where the folder exists already. So a link of harness keeps
the RAM, and a folder of harness under the next id has QEMU open it. The folder around them may
belong to QEMU's user: everything is done by descriptors of folders, and no symbolic link is
followed, but those to RAM that has no name (:mod:`harness.host.luo.held_ram`), to be looked at.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from harness.core.errors import InfrastructureError
from harness.core.files import private_folder, private_folder_at
from harness.host.luo import held_ram

#: Under libvirt's memory backing folder: a folder of harness for each guest that is being replaced.
KEEP = "harness-keep"
RAM = "ram"
#: More than guests are replaced at once: each can take the folder around theirs away once.
_TRIES = 1000
#: What says that a file is not there; everything else says nothing of it.
_NOT_THERE = (FileNotFoundError, NotADirectoryError)
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def keep_folder(ram_folder: Path, uuid: str) -> Path:
    """Return where a guest's links, state and descriptions are kept."""
    return ram_folder / KEEP / uuid


def make_keep(folder: Path) -> None:
    """Make a guest's private folder, empty. Raises InfrastructureError, also if there is one."""
    with _told(folder):
        own = _made(folder)
        try:
            os.close(private_folder_at(own, RAM))
        finally:
            os.close(own)


def _made(folder: Path) -> int:
    """Make it and open it; the folder around it may go at any time, with the last of others."""
    for left in reversed(range(_TRIES)):
        try:
            private_folder(folder.parent)
            with _opened(folder.parent) as parent:
                about = os.fstat(parent)
                if about.st_uid != os.geteuid() or about.st_mode & 0o077:
                    raise InfrastructureError(f"{folder.parent} is not private to this user")
                return private_folder_at(parent, folder.name)
        except (FileNotFoundError, FileExistsError):
            if not left or os.path.lexists(folder):
                raise
    raise AssertionError("the last try returns or raises")


def remove_keep(folder: Path) -> None:
    """Remove a guest's private folder, and with it the links. Idempotent."""
    shutil.rmtree(folder, ignore_errors=True)  # by descriptors: it follows no link
    with suppress(OSError):  # others are kept still
        os.rmdir(folder.parent)


def identity(about: os.stat_result) -> str:
    """``device:inode``: what makes a RAM file that very one."""
    return f"{about.st_dev}:{about.st_ino}"


def hold(folder: Path, instance: Path, ram: Mapping[str, str]) -> None:
    """Link an instance's RAM files into the guest's own folder.

    Raises InfrastructureError if one is not the file that it should be.
    """
    with _told(instance), _opened(instance) as source, _opened(folder / RAM) as target:
        for name, wanted in ram.items():
            with suppress(FileExistsError):  # of an attempt before
                os.link(name, name, src_dir_fd=source, dst_dir_fd=target, follow_symlinks=False)
            _expect(target, name, wanted, folder)


def held(folder: Path, ram: Mapping[str, str]) -> bool:
    """Return True if all RAM files are kept, and are those very ones.

    Raises InfrastructureError where that cannot be told: no guest is lost by a full table of files.
    """
    with _told(folder):
        try:
            with _opened(folder / RAM) as kept:
                return all(_is(kept, name, wanted) for name, wanted in ram.items())
        except _NOT_THERE:
            return False


def lay_held(folder: Path, held: Mapping[str, str], ram: Mapping[str, str]) -> None:
    """Have RAM that has no name be kept, by links to who holds it. Raises InfrastructureError."""
    with _told(folder), _opened(folder / RAM) as target:
        for name, holder in held.items():
            os.symlink(holder, name, dir_fd=target)
            _expect(target, name, ram[name], folder)


def keep_again(folder: Path, ram_folder: Path, short_name: str, ram: Mapping[str, str]) -> bool:
    """Link RAM files into the guest's own folder again, from where they are on offer.

    What was kept was removed, and no offer was used. Returns False if there is
    none. Raises InfrastructureError.
    """
    for place in _offers(ram_folder, short_name):
        if _holds(place, ram) and len(os.listdir(place)) == len(ram):
            remove_keep(folder)
            make_keep(folder)
            hold(folder, place, ram)
            return True
    return False


def untouched(
    ram_folder: Path, short_name: str, ids: Iterable[int], ram: Mapping[str, str]
) -> bool:
    """Return True if the RAM is still on offer under each of ``ids``.

    libvirt deletes the folder of an instance that ends: so none was started since. Raises
    InfrastructureError where that cannot be told.
    """
    with _told(ram_folder):
        for number in ids:
            try:
                with _opened(ram_folder / f"{number}-{short_name}") as place:
                    if not all(_is(place, name, wanted) for name, wanted in ram.items()):
                        return False
            except _NOT_THERE:
                return False
    return True


def offer(
    folder: Path, ram_folder: Path, short_name: str, ids: Iterable[int], ram: Mapping[str, str]
) -> None:
    """Have the kept RAM lie ready under each of ``ids`` that no instance has.

    Raises InfrastructureError.
    """
    with _told(ram_folder), _opened(folder / RAM) as kept, _opened(ram_folder) as top:
        about = _owner_of_a_file(kept, ram)
        for number in ids:
            name = f"{number}-{short_name}"
            try:
                place = private_folder_at(top, name)
            except FileExistsError:
                continue  # an instance that lives, or an offer that was made before
            try:
                for file in ram:
                    os.link(file, file, src_dir_fd=kept, dst_dir_fd=place, follow_symlinks=False)
                os.fchown(place, about.st_uid, about.st_gid)
            finally:
                os.close(place)


def withdraw(ram_folder: Path, short_name: str, ram: Mapping[str, str], but: str = "") -> None:
    """Remove every folder that holds this RAM, but for the one called ``but``.

    Folders of others, also of the same name, are left alone. Never raises.
    """
    with suppress(OSError):
        for place in _offers(ram_folder, short_name):
            if place.name != but and _holds(place, ram):
                shutil.rmtree(place, ignore_errors=True)


def numbers(ram_folder: Path, short_name: str) -> set[int]:
    """Return the ids under which there is a folder: an instance's, or an offer that was not used.

    Raises InfrastructureError.
    """
    with _told(ram_folder):
        return {int(place.name.partition("-")[0]) for place in _offers(ram_folder, short_name)}


def forgotten(ram_folder: Path) -> Iterator[tuple[str, int]]:
    """The guests (UUIDs) whose RAM is kept here, and how much of it (bytes)."""
    with suppress(OSError):
        for entry in sorted(os.scandir(ram_folder / KEEP), key=lambda entry: entry.name):
            size = 0
            with suppress(OSError):
                size = sum(one.stat().st_blocks * 512 for one in Path(entry).rglob("*"))
            yield entry.name, size


def _owner_of_a_file(kept: int, ram: Mapping[str, str]) -> os.stat_result:
    """The RAM files are QEMU's user's; the folder that offers them has to be, too."""
    return held_ram.about(kept, next(iter(ram)))


def _offers(ram_folder: Path, short_name: str) -> list[Path]:
    """What may be an offer, or belong to an instance. Raises OSError."""
    found = []
    for name in os.listdir(ram_folder):
        number, _, rest = name.partition("-")
        if rest == short_name and number.isdecimal():
            found.append(ram_folder / name)
    return found


def _holds(folder: Path, ram: Mapping[str, str]) -> bool:
    """Whether what is in there is this RAM, or nothing at all.

    Nothing is also what a process held that has ended: a QEMU that finds such a link tries to
    open it without end.
    """
    try:
        with _opened(folder) as place:
            for name in os.listdir(place):
                if name in ram and held_ram.is_lost(place, name):
                    continue
                if ram.get(name) != identity(held_ram.about(place, name)):
                    return False
    except OSError:
        return False
    return True


def _is(folder: int, name: str, wanted: str) -> bool:
    """Raises OSError, also where there is no such file."""
    return identity(held_ram.about(folder, name)) == wanted


def _expect(folder: int, name: str, wanted: str, where: Path) -> None:
    found = identity(held_ram.about(folder, name))
    if found != wanted:
        raise InfrastructureError(f"{where}: {name} is {found}, not the guest's RAM {wanted}")


@contextmanager
def _opened(folder: Path) -> Iterator[int]:
    descriptor = os.open(folder, _FOLDER)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def _told(what: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise InfrastructureError(f"{error.filename or what}: {error.strerror}") from error
