"""What a kernel's file says of itself, and whether one is loaded."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from harness.core.errors import InfrastructureError, UpdateFailed
from harness.host.kernel import kexec, read_only
from harness.host.kernel.kexec import KernelImage
from harness.host.kernel.writable_again import Watch
from harness.host.mounts import Mount

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


@pytest.fixture
def loaded(monkeypatch):
    """A kernel is loaded; what is done about file systems, and about the kernel, is written down.

    Called with what the kernel answers to the call, and what stands in the way of writing again.
    """
    done: list[object] = []

    def build(refusal: OSError | None = None, stuck: str = "") -> list[object]:
        def made_read_only() -> None:
            done.append("read-only")

        def called(*_: object) -> None:
            done.append("kexec")
            if refusal is not None:
                raise refusal

        def made_writable(mounts: list[Mount]) -> None:
            done.append([one.where for one in mounts])
            if stuck:
                raise InfrastructureError(stuck)

        monkeypatch.setattr(kexec, "is_loaded", lambda: True)
        monkeypatch.setattr(kexec, "still_written", lambda: [Mount("/", "8:1")])
        monkeypatch.setattr(read_only, "make_read_only", made_read_only)
        monkeypatch.setattr(read_only, "make_writable", made_writable)
        monkeypatch.setattr(kexec, "_call", called)
        return done

    return build


@pytest.mark.parametrize(
    ("refusal", "said"),
    [(OSError(1, "Operation not permitted"), "was refused: Operation"), (None, "came back")],
    ids=["refused", "came back"],
)
def test_a_kernel_that_goes_on_has_its_file_systems_as_they_were(loaded, refusal, said):
    """Guests are resumed by it, and a journal is written."""
    done = loaded(refusal)
    with pytest.raises(UpdateFailed, match=said):
        kexec.start()
    assert done == ["read-only", "kexec", ["/"]]


@pytest.mark.parametrize("stuck", ["", "/ is read-only"])
def test_who_watches_over_the_disks_is_told_before_and_after(loaded, stuck):
    """Whoever kills this process in between leaves it armed."""
    done = loaded(OSError(1, "Operation not permitted"), stuck)

    class Told(Watch):
        def __init__(self) -> None:
            """No process."""

        def arm(self, before: Iterable[Mount]) -> None:
            done.append(("armed", [one.where for one in before]))

        def disarm(self) -> None:
            done.append("disarmed")

    with pytest.raises(UpdateFailed):
        kexec.start(Told())
    assert done == [("armed", ["/"]), "read-only", "kexec", ["/"], "disarmed"]


def test_file_systems_that_stay_read_only_are_told(loaded):
    loaded(OSError(16, "Device or resource busy"), stuck="/ is read-only")
    with pytest.raises(UpdateFailed, match="resource busy; / is read-only") as told:
        kexec.start()
    assert "remount,rw" in str(told.value.hint)


def test_nothing_is_left_where_no_kernel_is_loaded(monkeypatch):
    """Neither are file systems made read-only for nothing."""
    monkeypatch.setattr(kexec, "is_loaded", lambda: False)
    monkeypatch.setattr(kexec, "_call", lambda *words: pytest.fail("called the kernel"))
    with pytest.raises(UpdateFailed, match="no kernel is loaded"):
        kexec.start()
