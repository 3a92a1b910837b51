"""Any cloud image as a lab guest's disk: a qcow2 file, or a URL with the SHA-256 it must have.

What came from elsewhere is not trusted: a URL without a digest is refused, and so is a qcow2 that
refers to another file, because QEMU would open that file on this host and show it to the guest.
"""

from __future__ import annotations

import fcntl
import hashlib
import http.client
import os
import string
import struct
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import IO
from urllib.parse import urlsplit

from harness.core.errors import LabError, UsageError
from harness.core.files import public_folder
from harness.core.paths import cache_dir
from harness.core.timebase import Deadline
from harness.lab.images import Image, recipes

Progress = Callable[[str], None]

_CHUNK = 1 << 20
#: A download that takes longer than this many seconds is given up,
DOWNLOAD_S = 3600.0
#: and so is a server that sends nothing for so long.
_STALL_S = 30.0
#: Start of a qcow2 file, big endian: magic, version, offset of the backing file's name, …
#: https://gitlab.com/qemu-project/qemu/-/blob/master/docs/interop/qcow2.txt
_HEADER = struct.Struct(">4sIQ")
_MAGIC = b"QFI\xfb"
#: From version 3 on, the incompatible features are at byte 72; bit 2: data in another file.
_FEATURES = struct.Struct(">72xQ")
_EXTERNAL_DATA = 1 << 2


def is_url(source: str) -> bool:
    """Whether ``source`` is something to download rather than a path."""
    return urlsplit(source).scheme in ("http", "https")


def fetch(
    source: str, sha256: str | None, progress: Progress, limit_s: float = DOWNLOAD_S
) -> Image:
    """The image at ``source``; a downloaded one is kept in the cache under its digest.

    Raises UsageError for a source that cannot be right (no digest for a URL, not a qcow2, one
    that refers to another file), LabError if the download fails or has another digest,
    DeadlineExpired if it takes longer than ``limit_s`` seconds.
    """
    wanted = _digest(sha256)
    if is_url(source):
        if wanted is None:
            raise UsageError(f"{source}: a URL needs the SHA-256 of its content", hint="--sha256")
        file = _downloaded(source, wanted, progress, Deadline.after(limit_s))
    else:
        file = Path(source)
        if not file.is_file():
            hint = f"one of {', '.join(recipes())}, a qcow2 file, or a URL"
            raise UsageError(f"no such image file: {source}", hint=hint)
        if wanted is not None:
            _compare(source, wanted, _digest_of(file))
    refuse_unsafe(file)
    return Image(name="cloud", kernel=None, initrd=None, disk=file.resolve(), disk_format="qcow2")


def refuse_unsafe(file: Path) -> None:
    """Raise UsageError unless ``file`` is a qcow2 that stands alone."""
    with open(file, "rb") as image:
        start = image.read(_FEATURES.size)
    if len(start) < _FEATURES.size or start[:4] != _MAGIC:
        raise UsageError(f"{file} is not a qcow2 image", hint="qemu-img convert -O qcow2")
    _, version, backing_offset = _HEADER.unpack_from(start)
    features = _FEATURES.unpack(start)[0] if version >= 3 else 0
    if backing_offset or features & _EXTERNAL_DATA:
        raise UsageError(
            f"{file} refers to another file, which the guest could then read",
            hint="make it one file: qemu-img convert -O qcow2",
        )


def _digest(text: str | None) -> str | None:
    if text is None:
        return None
    digest = text.strip().lower()
    if len(digest) != 64 or not set(digest) <= set(string.hexdigits):
        raise UsageError(f"not a SHA-256 (64 hexadecimal digits): {text!r}")
    return digest


def _digest_of(file: Path) -> str:
    with open(file, "rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def _compare(source: str, wanted: str, measured: str) -> None:
    if measured != wanted:
        raise LabError(f"{source} has SHA-256 {measured}, not {wanted}; it is not used")


def _downloaded(url: str, wanted: str, progress: Progress, deadline: Deadline) -> Path:
    """The verified file in the cache; only a verified one ever has that name."""
    folder = cache_dir() / "images"
    target = folder / f"cloud-{wanted}.qcow2"
    if target.exists():
        return target
    public_folder(folder)
    partial = folder / f".cloud-{wanted}.partial"
    with open(partial, "ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise LabError(f"{url} is being downloaded by another harness") from error
        try:
            file.truncate(0)  # what a killed download left
            _compare(url, wanted, _stream(url, file, progress, deadline))
            os.fsync(file.fileno())
            partial.rename(target)
        finally:
            partial.unlink(missing_ok=True)
    return target


def _stream(url: str, file: IO[bytes], progress: Progress, deadline: Deadline) -> str:
    """Stream ``url`` into ``file``; the digest of what was written."""
    digest = hashlib.sha256()
    progress(f"downloading {url}")
    try:
        with urllib.request.urlopen(url, timeout=_STALL_S) as answer:
            while chunk := answer.read1(_CHUNK):
                deadline.check(f"downloading {url}")
                digest.update(chunk)
                file.write(chunk)
        file.flush()
    # URLError is an OSError; a broken chunked body is an HTTPException.
    except (OSError, http.client.HTTPException) as error:
        raise LabError(f"cannot download {url}: {error}") from error
    return digest.hexdigest()
