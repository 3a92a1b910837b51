"""What a kernel's file says of itself, and whether one is loaded."""

from __future__ import annotations

import pytest

from harness.core.errors import UpdateFailed
from harness.host.kernel import kexec
from harness.host.kernel.kexec import KernelImage

SAID = "6.12.95-amd64 (debian-kernel@lists.debian.org) #1 SMP Debian 6.12.95-1 (2026-07-05)"


def image(version: str = SAID, magic: bytes = b"HdrS") -> bytes:
    """The head of a bzImage whose version is at 0x200 + 0x1000."""
    head = bytearray(0x3000)
    head[0x202:0x206] = magic
    head[0x20E:0x210] = (0x1000).to_bytes(2, "little")
    head[0x1200 : 0x1200 + len(version)] = version.encode()
    return bytes(head)


def test_a_kernel_tells_what_uname_will_say(tmp_path):
    """Release and version, without who built it."""
    file = tmp_path / "vmlinuz"
    file.write_bytes(image())
    found = KernelImage.read(file)
    assert (found.release, found.version) == (
        "6.12.95-amd64",
        "#1 SMP Debian 6.12.95-1 (2026-07-05)",
    )


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "no kernel"),
        (b"\x7fELF" + bytes(0x1000), "no kernel"),
        (image(magic=b"Hdrs"), "no kernel"),
        (image(version=""), "does not tell its version"),
        (image(version="6.12"), "does not tell its version"),
        (image()[:0x1100], "does not tell its version"),
    ],
    ids=["empty", "elf", "magic", "no version", "half a version", "short"],
)
def test_what_is_no_kernel_is_refused(tmp_path, content, said):
    """With the file's name, and before anything is loaded."""
    file = tmp_path / "vmlinuz"
    file.write_bytes(content)
    with pytest.raises(UpdateFailed, match=said) as refused:
        KernelImage.read(file)
    assert str(file) in refused.value.message


def test_a_kernel_that_is_not_there_is_told(tmp_path):
    """The error of the file system."""
    with pytest.raises(UpdateFailed, match="No such file"):
        KernelImage.read(tmp_path / "vmlinuz")


@pytest.mark.parametrize(("said", "loaded"), [("1\n", True), ("0\n", False), (None, False)])
def test_whether_a_kernel_is_loaded_is_read(tmp_path, said, loaded):
    """Where the kernel tells nothing, none is."""
    file = tmp_path / "kexec_loaded"
    if said is not None:
        file.write_text(said)
    assert kexec.is_loaded(file) is loaded


def test_a_kernel_is_started_when_file_systems_are_read_only(monkeypatch, tmp_path):
    """The kernel makes them so in a thread of its own, which takes a while."""
    written = iter([["/", "/var"], ["/"], []])
    called = []
    monkeypatch.setattr(kexec, "is_loaded", lambda: True)
    monkeypatch.setattr(kexec, "_SYSRQ", tmp_path / "sysrq")
    monkeypatch.setattr(kexec, "still_written", lambda: next(written))
    monkeypatch.setattr(kexec, "_call", lambda *words: called.append(next(written, "none is left")))
    with pytest.raises(UpdateFailed, match="came back"):
        kexec.start()
    assert (called, (tmp_path / "sysrq").read_text()) == (["none is left"], "u")


def test_nothing_is_left_where_no_kernel_is_loaded(monkeypatch):
    """Neither are file systems made read-only for nothing."""
    monkeypatch.setattr(kexec, "is_loaded", lambda: False)
    monkeypatch.setattr(kexec, "_call", lambda *words: pytest.fail("called the kernel"))
    with pytest.raises(UpdateFailed, match="no kernel is loaded"):
        kexec.start()
