"""What a kernel's file says of itself, and that nothing is started that was not loaded."""

from __future__ import annotations

import pytest

from harness.core.errors import UpdateFailed
from harness.host.kernel import kexec
from harness.host.kernel.kexec import KernelImage, is_loaded


def test_a_kernel_tells_its_release_and_version(tmp_path):
    """As `uname` says them once it runs; by the header that boot loaders read."""
    head = bytearray(0x1000)
    head[0x202:0x206] = b"HdrS"
    head[0x20E:0x210] = (0x700).to_bytes(2, "little")
    said = b"6.12.95-amd64 (maker@host) #1 SMP Debian 6.12.95-1 (2026-01-01)\0"
    head[0x900 : 0x900 + len(said)] = said
    file = tmp_path / "vmlinuz"
    file.write_bytes(head)
    image = KernelImage.read(file)
    assert image.release == "6.12.95-amd64"
    assert image.version == "#1 SMP Debian 6.12.95-1 (2026-01-01)"


@pytest.mark.parametrize("content", [b"", b"MZ" * 4096, b"\x7fELF"])
def test_a_file_that_is_no_kernel_is_refused(tmp_path, content):
    """Empty, of another kind, too short."""
    file = tmp_path / "vmlinuz"
    file.write_bytes(content)
    with pytest.raises(UpdateFailed, match="is no kernel for x86"):
        KernelImage.read(file)
    with pytest.raises(UpdateFailed, match="No such file"):
        KernelImage.read(tmp_path / "none")


def test_nothing_is_started_that_was_not_loaded(tmp_path, monkeypatch):
    """The file says so, or is not there."""
    file = tmp_path / "loaded"
    assert not is_loaded(file)
    file.write_text("0\n")
    assert not is_loaded(file)
    monkeypatch.setattr(kexec, "is_loaded", lambda: False)
    monkeypatch.setattr(kexec, "_call", lambda *words: pytest.fail("a system call"))
    with pytest.raises(UpdateFailed, match="no kernel is loaded"):
        kexec.start()
    file.write_text("1\n")
    assert is_loaded(file)
