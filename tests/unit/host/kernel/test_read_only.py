"""File systems that the kernel makes read-only, and that are written to again if it goes on."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.core.errors import DeadlineExpired, InfrastructureError
from harness.host.kernel import early, read_only
from harness.host.mounts import Mount

ROOT = Mount("/", "8:1", ("rw", "relatime"), ("rw", "errors=remount-ro"))
REGION = Mount("/ram", "259:0", ("rw", "nosuid", "noatime"), ("rw", "dax=always"))
SHUT = Mount("/srv/shut", "8:1", ("ro", "relatime"), ("rw",))


class Kernel:
    """Its table of mounts; ``slow``: how often it is looked at until all is read-only."""

    def __init__(self, mounts: list[Mount], slow: int = 0) -> None:
        self.written, self.slow = list(mounts), slow
        self.asked: list[tuple[Path, str]] = []
        self.refuses = 0

    def still_written(self) -> list[Mount]:
        if self.slow == 0:
            return self.written
        self.slow -= 1
        return [ROOT]

    def change(self, where: Path, options: str) -> None:
        self.asked.append((where, options))
        if self.refuses:
            self.refuses -= 1
            raise InfrastructureError(f"mounting {where}: busy")
        self.written.append(next(one for one in (ROOT, REGION) if one.where == str(where)))


@pytest.fixture
def kernel(monkeypatch, tmp_path):
    def build(*mounts: Mount, slow: int = 0) -> Kernel:
        made = Kernel(list(mounts), slow)
        monkeypatch.setattr(read_only, "still_written", made.still_written)
        monkeypatch.setattr(early, "change", made.change)
        monkeypatch.setattr(read_only, "_SYSRQ", tmp_path / "sysrq")
        return made

    return build


def test_it_is_waited_for_until_nothing_is_written_to(kernel, tmp_path):
    """The kernel does it in a thread of its own, which takes a while."""
    made = kernel(slow=3)
    read_only.make_read_only()
    assert (made.slow, (tmp_path / "sysrq").read_text()) == (0, "u")


def test_one_that_is_written_to_for_good_keeps_nobody(kernel, monkeypatch):
    """All was synced before; guests are paused."""
    monkeypatch.setattr(read_only, "_READ_ONLY_WITHIN_S", 0.05)
    made = kernel(ROOT)
    read_only.make_read_only()
    assert made.written == [ROOT]


def test_what_was_written_to_is_so_again_with_the_options_it_had(kernel):
    """Once for each file system; a mount that was read-only is not asked for."""
    made = kernel()
    read_only.make_writable([SHUT, ROOT, REGION])
    assert made.asked == [
        (Path("/"), "remount,rw,relatime,rw,errors=remount-ro"),
        (Path("/ram"), "remount,rw,nosuid,noatime,rw,dax=always"),
    ]


def test_one_that_was_not_made_read_only_is_left_alone(kernel):
    made = kernel(ROOT, REGION)
    read_only.make_writable([ROOT, REGION])
    assert made.asked == []


def test_one_that_is_busy_is_tried_again(kernel):
    made = kernel()
    made.refuses = 2
    read_only.make_writable([ROOT])
    assert len(made.asked) == 3


def test_one_that_stays_read_only_is_told(kernel, monkeypatch):
    monkeypatch.setattr(read_only, "_WRITABLE_WITHIN_S", 0.05)
    made = kernel()
    made.refuses = 1000
    with pytest.raises(DeadlineExpired, match="mounting /: busy"):
        read_only.make_writable([ROOT])
