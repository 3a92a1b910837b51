"""What a file of known hosts says of a name: read once, for all guests of a run.

To ask `ssh-keygen` is a process for each name and file. So a file of which every line is of a form
that is understood here is read here; for any other, and for a name that is not plain, OpenSSH is
asked.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import re
from dataclasses import dataclass
from pathlib import Path

from harness.core.timebase import Deadline
from harness.guest import openssh, plain_config

_LINE = re.compile(
    r"(?:@(?:cert-authority|revoked)[ \t]+)?(\S+)[ \t]+[A-Za-z0-9@.-]+[ \t]+\S[^\r\0]*"
)
_HASH = re.compile(r"\|1\|([A-Za-z0-9+/]{27}=)\|([A-Za-z0-9+/]{27}=)")
_PLAIN = re.compile(r"[A-Za-z0-9._:\[\],-]+")
_PATTERNS = re.compile(r"[A-Za-z0-9._:\[\],*?!-]+")
_NAME = re.compile(r"[A-Za-z0-9._:\[\]-]+")
_LONGEST_BYTES = 16 * 1024 * 1024
#: OpenSSH gives a longer name or pattern up; see match.c.
_LONGEST_NAME = 1000


@dataclass(frozen=True)
class _File:
    """A file that is understood; each entry is the number of a line, and the line."""

    plain: dict[str, list[tuple[int, str]]]
    hashed: list[tuple[bytes, bytes, int, str]]
    """Salt and hash of a name."""
    patterns: list[tuple[tuple[str, ...], int, str]]

    def lines_of(self, name: str) -> list[str]:
        found = list(self.plain.get(name.lower(), ()))
        for salt, known, number, line in self.hashed:
            if hmac.digest(salt, name.encode(), hashlib.sha1) == known:
                found.append((number, line))
        for patterns, number, line in self.patterns:
            if plain_config.matches(patterns, name):
                found.append((number, line))
        return [line for _, line in sorted(found)]


#: Path → what it was like when it was read, and what was read; None: not understood.
_read_files: dict[Path, tuple[tuple[int, ...], _File | None]] = {}


def known_lines(file: Path, name: str, deadline: Deadline) -> list[str]:
    """Return the lines of a known_hosts file that hold for ``name``, be they hashed or patterns.

    A file that is not there has none. Raises OSError for one that cannot be read, DeadlineExpired.
    Any thread may call it.
    """
    if not openssh.is_installed():
        return plain_config.known_lines(file, name, deadline)
    try:
        content = _content(file)
    except FileNotFoundError:
        return []
    if content is None or not _NAME.fullmatch(name) or len(name) > _LONGEST_NAME:
        return openssh.known_lines(file, name, deadline)
    return content.lines_of(name)


def _content(file: Path) -> _File | None:
    """The file, as it is now. Raises OSError."""
    with file.open("rb") as opened:
        about = os.fstat(opened.fileno())
        now = (about.st_dev, about.st_ino, about.st_size, about.st_mtime_ns, about.st_ctime_ns)
        was, content = _read_files.get(file, (None, None))
        if was != now:
            data = opened.read(_LONGEST_BYTES + 1)
            content = _parsed(data) if len(data) <= _LONGEST_BYTES else None
            _read_files[file] = now, content
    return content


def _parsed(data: bytes) -> _File | None:
    """None where any line is of another form than is known."""
    try:
        lines = data.decode("ascii").split("\n")
    except UnicodeDecodeError:
        return None
    found = _File({}, [], [])
    for number, line in enumerate(lines):
        if not line.strip(" \t") or line.lstrip(" \t").startswith("#"):
            continue
        form = _LINE.fullmatch(line)
        if form is None or not _add(found, form[1], number, line):
            return None
    return found


def _add(to: _File, names: str, number: int, line: str) -> bool:
    """Add a line to what is known; return whether it is understood."""
    each = names.split(",")
    if max(map(len, each)) > _LONGEST_NAME:
        return False
    if hashed := _HASH.fullmatch(names):
        salt, known = (base64.b64decode(part) for part in hashed.groups())
        to.hashed.append((salt, known, number, line))
    elif _PLAIN.fullmatch(names):
        for one in dict.fromkeys(one.lower() for one in each):
            to.plain.setdefault(one, []).append((number, line))
    elif _PATTERNS.fullmatch(names):
        to.patterns.append((tuple(each), number, line))
    else:
        return False
    return True
