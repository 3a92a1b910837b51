"""What root may run or be told by: only what no other user can change, file and folders alike.

A user who may write a program, or a folder on the way to it, decides what it does. So for root
every part of the path must belong to root, or to the person who became root by sudo (SUDO_UID, or
PKEXEC_UID): their own files are their own choice. In a sticky folder (``/tmp``) others cannot
replace what is not theirs, so such a folder may be writable by every user.
"""

from __future__ import annotations

import grp
import os
import pwd
import stat
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from harness.core.errors import ConfigError

_ROOT = 0
#: Set by sudo(8) and pkexec(1) to the user who called them.
_CALLERS = ("SUDO_UID", "PKEXEC_UID")
_LINKS = 40
_ACL = "system.posix_acl_access"
#: ``struct posix_acl_xattr_entry`` of linux/posix_acl_xattr.h, after a version of 4 bytes.
_ENTRY = struct.Struct("<HHI")
_ACL_USER, _ACL_GROUP, _ACL_WRITE = 0x02, 0x08, 0x02


@dataclass(frozen=True)
class Distrust:
    """The part of a path that another user can change, and how."""

    part: Path
    why: str
    """``belongs to mallory (uid 1001, mode 0755)``"""
    fix: str
    """A command that changes that."""


def refuse_untrusted(path: Path, *, file: Path | str | None = None, key: str | None = None) -> None:
    """Raise ConfigError if this process is root's and another user can change ``path``.

    Args:
        path: a file or folder; also every folder and symbolic link on the way to it is looked at.
        file: the configuration that names it, for the message.
        key: its key there.
    """
    _refuse(path, distrust(path), file, key)


def refuse_untrusted_tree(folder: Path, *, key: str | None = None) -> None:
    """Raise ConfigError as :func:`refuse_untrusted` does, also for anything in ``folder``."""
    refuse_untrusted(folder, key=key)
    if os.geteuid() == _ROOT:
        for where, folders, files in os.walk(folder):
            for name in (*folders, *files):
                refuse_untrusted(Path(where, name), key=key)


def _refuse(path: Path, found: Distrust | None, file: Path | str | None, key: str | None) -> None:
    if found is None:
        return
    subject = str(path) if found.part == path else f"{path}: {found.part}"
    raise ConfigError(
        f"{subject} {found.why}; root uses nothing that another user can change",
        file=file,
        key=key,
        hint=found.fix,
    )


def distrust(path: Path) -> Distrust | None:
    """Return the first part of ``path`` that another user can change; None for users but root.

    What does not exist, or cannot be looked at, is not judged: opening it will tell.
    """
    return changed_by_others(path) if os.geteuid() == _ROOT else None


def changed_by_others(path: Path) -> Distrust | None:
    """Return the first part of ``path`` that a user can change who is neither this one nor root."""
    users = _trusted_users()
    for part in _parts(path):
        try:
            status = part.lstat()
        except OSError:
            return None
        found = _judge(part, status, users)
        if found is not None:
            return found
    return None


def _trusted_users() -> frozenset[int]:
    if os.geteuid() != _ROOT:  # what sudo left in the environment says who gave up rights
        return frozenset({_ROOT, os.geteuid()})
    callers = (os.environ.get(name, "") for name in _CALLERS)
    return frozenset({_ROOT, *(int(uid) for uid in callers if uid.isdecimal())})


def _parts(path: Path) -> Iterator[Path]:
    """Yield every folder, link and file by which the kernel gets to ``path``, from ``/`` on."""
    left = list(path.absolute().parts[1:])
    here = Path("/")
    links = 0
    yield here
    while left:
        name = left.pop(0)
        if name == "..":
            here = here.parent
            continue
        part = here / name
        yield part
        try:
            target = Path(os.readlink(part))
        except OSError:
            here = part
            continue
        links += 1
        if links > _LINKS:
            return  # opening it will tell
        if target.is_absolute():
            here = Path("/")
        left = [*target.parts[target.is_absolute() :], *left]


def _judge(part: Path, status: os.stat_result, users: frozenset[int]) -> Distrust | None:
    mode = stat.S_IMODE(status.st_mode)
    shown = f"mode {mode:04o}"
    if status.st_uid not in users:
        owner = f"{_name(status.st_uid)} (uid {status.st_uid}, {shown})"
        return Distrust(part, f"belongs to {owner}", f"chown --no-dereference root {part}")
    if stat.S_ISLNK(status.st_mode):
        return None
    if stat.S_ISDIR(status.st_mode) and mode & stat.S_ISVTX:
        return None
    owner = f"owner {_name(status.st_uid)}, {shown}"
    if mode & stat.S_IWOTH:
        return Distrust(part, f"can be changed by any user ({owner})", f"chmod o-w {part}")
    if mode & stat.S_IWGRP:
        who = _writing_group(status.st_gid, users) or _writing_acl(part, users)
        if who is not None:
            return Distrust(part, f"can be changed by {who} ({owner})", f"chmod g-w {part}")
    return None


def _writing_group(gid: int, users: frozenset[int]) -> str | None:
    """Return the group's name if a user who is not trusted is in it."""
    if gid == _ROOT:
        return None
    try:
        group = grp.getgrgid(gid)
    except KeyError:
        return f"group {gid}"
    members = set(group.gr_mem)
    members |= {user.pw_name for user in pwd.getpwall() if user.pw_gid == gid}
    trusted = {_name(uid) for uid in users}
    return f"group {group.gr_name}" if members - trusted else None


def _writing_acl(part: Path, users: frozenset[int]) -> str | None:
    """Return which user or group an access control list lets write; the mode shows its mask."""
    try:
        acl = os.getxattr(part, _ACL)[4:]
    except OSError:
        return None
    for tag, permissions, number in _ENTRY.iter_unpack(acl[: len(acl) // 8 * 8]):
        if not permissions & _ACL_WRITE:
            continue
        if tag == _ACL_USER and number not in users:
            return f"{_name(number)} (uid {number}, by its ACL)"
        if tag == _ACL_GROUP and (group := _writing_group(number, users)):
            return f"{group} (by its ACL)"
    return None


def _name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return "a user without a name"
