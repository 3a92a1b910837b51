"""In which words a kernel hands memory over: by its file, packed as distributions pack it."""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import shutil
import subprocess
from types import SimpleNamespace

import pytest

from harness.core.errors import MissingCapability, UpdateFailed
from harness.host.luo import abi

WORDS = b"\0kho-v4\0...\0luo-v5\0xx\0memfd-v2\0"
KERNEL = os.urandom(4096) + b"memfd-v\0" + WORDS + b"pci_luo-v7\0my-kho-v9\0kho-v\0luo-v5 \0"
_VERSION_AT = 0x300


def by(program: str, *options: str):
    def pack(content: bytes) -> bytes:
        if shutil.which(program) is None:
            pytest.skip(f"no {program}")
        done = subprocess.run([program, *options], input=content, capture_output=True, check=True)
        return done.stdout

    return pack


PACKED = {
    "gzip": gzip.compress,
    "bzip2": bz2.compress,
    "xz": lzma.compress,
    "zstd": by("zstd", "-cq"),
    "lz4": by("lz4", "-lcq"),
}


def image(folder, payload: bytes, name: str = "vmlinuz", version: bytes = b"6.19 (a@b) #1"):
    """A bzImage, as far as it is looked at: a header of five sectors, and what is packed."""
    head = bytearray(5 * 512)
    head[0x1F1] = 4
    head[0x202:0x206] = b"HdrS"
    head[0x20E:0x210] = (_VERSION_AT - 0x200).to_bytes(2, "little")
    head[_VERSION_AT : _VERSION_AT + len(version) + 1] = version + b"\0"
    head[0x248:0x24C] = (100).to_bytes(4, "little")
    head[0x24C:0x250] = len(payload).to_bytes(4, "little")
    file = folder / name
    file.write_bytes(bytes(head) + bytes(100) + payload + os.urandom(64))
    return file


@pytest.mark.parametrize("how", PACKED)
def test_the_words_are_found_whatever_the_kernel_is_packed_by(tmp_path, how):
    """Behind what is packed the kernel's build puts its length, which is of no format."""
    packed = PACKED[how](KERNEL) + len(KERNEL).to_bytes(4, "little")
    found = abi.abi_of(image(tmp_path, packed))
    assert str(found) == "kho-v4, luo-v5, memfd-v2"
    assert found.whole


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (WORDS.replace(b"luo-v5", b"luo-x5"), "kho-v4, memfd-v2"),
        (WORDS + b"\0kho-v5\0", "luo-v5, memfd-v2"),
        (b"nothing of the kind", "none of them"),
    ],
)
def test_a_kernel_that_lacks_a_word_or_has_two_is_not_whole(tmp_path, content, said):
    """Of two versions none is known to be the one that counts."""
    found = abi.abi_of(image(tmp_path, gzip.compress(content)))
    assert (str(found), found.whole) == (said, False)


def test_what_cannot_be_unpacked_is_told(tmp_path, monkeypatch):
    """Nothing is guessed of a kernel that is not seen."""
    with pytest.raises(UpdateFailed, match="No such file"):
        abi.abi_of(tmp_path / "none")
    with pytest.raises(UpdateFailed, match="not known here"):
        abi.abi_of(image(tmp_path, b"\x89LZO"))
    (tmp_path / "short").write_bytes(b"short")
    with pytest.raises(UpdateFailed, match="not known here"):
        abi.abi_of(tmp_path / "short")
    with pytest.raises(UpdateFailed, match="cannot be unpacked"):
        abi.abi_of(image(tmp_path, b"\xfd7zXZ\x00rubbish"))
    broken = image(tmp_path, b"\x28\xb5\x2f\xfdrubbish")
    if shutil.which("zstd") is not None:
        with pytest.raises(UpdateFailed, match="zstd cannot unpack"):
            abi.abi_of(broken)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingCapability, match="zstd, by which"):
        abi.abi_of(broken)


def test_an_unpacker_that_hangs_is_ended(tmp_path, monkeypatch):
    """A kernel is looked at when a plan is made: that has to end."""
    (tmp_path / "zstd").write_text("#!/bin/sh\nexec sleep 60\n")
    (tmp_path / "zstd").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(abi, "_LIMIT_S", 0.2)
    with pytest.raises(UpdateFailed, match="in time"):
        abi.abi_of(image(tmp_path, b"\x28\xb5\x2f\xfd"))


def test_the_running_kernel_is_its_file_in_boot_and_no_other_build_of_it(tmp_path, monkeypatch):
    """A package that was upgraded has another build under the same name."""
    packed = gzip.compress(KERNEL)
    monkeypatch.setattr("os.uname", lambda: SimpleNamespace(release="6.19", version="#1 today"))
    image(tmp_path, packed, "vmlinuz-6.19", b"6.19 (a@b) #1 today")
    assert abi.running(tmp_path).whole
    image(tmp_path, packed, "vmlinuz-6.19", b"6.19 (a@b) #2 tomorrow")
    with pytest.raises(UpdateFailed, match="not the kernel that runs, 6.19 #1 today"):
        abi.running(tmp_path)
    (tmp_path / "vmlinuz-6.19").unlink()
    with pytest.raises(UpdateFailed, match="vmlinuz-6.19"):
        abi.running(tmp_path)
