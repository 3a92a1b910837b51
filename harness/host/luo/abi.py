"""In which words a kernel hands memory over, by its file: ``kho-v4``, ``luo-v5``, ``memfd-v2``.

A kernel that is handed something in other words panics. Nothing on a host tells the words of
another kernel, not even those of the one that runs; but each of them is in the kernel's file, as a
string that it compares with. So the file is unpacked and searched.
"""

from __future__ import annotations

import bz2
import lzma
import os
import re
import subprocess
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from harness.core.errors import HarnessError, MissingCapability, UpdateFailed
from harness.host.kernel.kexec import KernelImage

BOOT = Path("/boot")
#: Memory itself, the orchestrator, and its files in memory.
PARTS = ("kho", "luo", "memfd")
_WORD = re.compile(rb"(?<![\w-])(kho|luo|memfd)-v(\d{1,4})\x00")
#: Of a bzImage: sectors before the code, and where in that is the packed kernel, and how long.
_SECTORS_AT, _PAYLOAD_AT, _SECTOR = 0x1F1, 0x248, 512
_LIMIT_S = 60.0


@dataclass(frozen=True)
class Abi:
    """The words of one kernel, by part; one that it has not is left out."""

    words: Mapping[str, str]

    @property
    def whole(self) -> bool:
        """Whether it can hand over memory, sessions and files in memory."""
        return set(self.words) == set(PARTS)

    def __str__(self) -> str:
        return ", ".join(self.words[one] for one in PARTS if one in self.words) or "none of them"


def abi_of(kernel: Path) -> Abi:
    """Return the words of a kernel's file. Raises UpdateFailed or MissingCapability.

    A word of two versions is none: then the kernel speaks a language that is not known here.
    """
    image = unpacked(kernel)
    found = {part: _words(image, part) for part in PARTS}
    return Abi({part: next(iter(words)) for part, words in found.items() if len(words) == 1})


def _words(image: bytes, part: str) -> set[str]:
    """Looked for as bytes first: an expression alone takes thirty times as long."""
    found, at = set(), -1
    while (at := image.find(f"{part}-v".encode(), at + 1)) >= 0:
        if match := _WORD.match(image, at):
            found.add(f"{part}-v{int(match[2])}")
    return found


def running(boot: Path = BOOT) -> Abi:
    """Return the words of the kernel that runs, by its file. Raises UpdateFailed.

    A file of the same release that is of another build is not believed.
    """
    about = os.uname()
    file = boot / f"vmlinuz-{about.release}"
    image = KernelImage.read(file)
    if (image.release, image.version) != (about.release, about.version):
        raise UpdateFailed(
            f"{file} is {image.release} {image.version}, and not the kernel that runs, "
            f"{about.release} {about.version}"
        )
    return abi_of(file)


def unpacked(kernel: Path) -> bytes:
    """Return the kernel in a bzImage as it is in memory. Raises UpdateFailed, MissingCapability."""
    try:
        packed = kernel.read_bytes()
    except OSError as error:
        raise UpdateFailed(f"{kernel}: {error.strerror}") from error
    start = ((packed[_SECTORS_AT] or 4) + 1) * _SECTOR if len(packed) > _PAYLOAD_AT + 8 else 0
    at, size = (
        int.from_bytes(packed[_PAYLOAD_AT + n : _PAYLOAD_AT + n + 4], "little") for n in (0, 4)
    )
    payload = packed[start + at : start + at + size]
    unpack = next((how for magic, how in _HOW.items() if payload.startswith(magic)), None)
    if unpack is None:
        raise UpdateFailed(f"{kernel} is packed in a way that is not known here")
    try:
        return unpack(payload)
    except HarnessError:
        raise
    except (OSError, EOFError, ValueError, lzma.LZMAError, zlib.error) as error:
        raise UpdateFailed(f"{kernel} cannot be unpacked: {error}") from error


def _by_program(name: str, *options: str) -> Callable[[bytes], bytes]:
    def unpack(payload: bytes) -> bytes:
        words = [name, *options]
        try:
            done = subprocess.run(
                words, input=payload, capture_output=True, timeout=_LIMIT_S, check=False
            )
        except FileNotFoundError as error:
            raise MissingCapability(
                name,
                f"{name}, by which this kernel is packed, is not installed",
                hint=f"apt install {name}",
            ) from error
        except subprocess.TimeoutExpired as error:
            raise UpdateFailed(f"{name} did not unpack the kernel in time") from error
        # Behind the packed kernel is its length, which is not of the format: what came is judged.
        if not done.stdout:
            said = done.stderr.decode(errors="replace").strip()
            raise UpdateFailed(f"{name} cannot unpack the kernel: {said}")
        return done.stdout

    return unpack


#: How the packed kernel begins → what unpacks it.
_HOW: Mapping[bytes, Callable[[bytes], bytes]] = {
    b"\x1f\x8b": lambda payload: zlib.decompressobj(wbits=31).decompress(payload),
    b"BZh": lambda payload: bz2.BZ2Decompressor().decompress(payload),
    b"\xfd7zXZ\x00": lambda payload: lzma.LZMADecompressor().decompress(payload),
    b"\x28\xb5\x2f\xfd": _by_program("zstd", "-dcq"),
    b"\x02\x21\x4c\x18": _by_program("lz4", "-dcq"),
}
