"""The page in the region that the next kernel believes, and nothing else."""

from __future__ import annotations

import pytest

from harness.core.errors import InfrastructureError
from harness.host.kernel import magic


@pytest.fixture
def region(tmp_path):
    said = magic.new_magic("run-1")
    magic.write(tmp_path, said)
    return tmp_path, said


def test_the_page_is_believed_as_it_was_written(region):
    """A whole page, of no other run; written again, it is the new one."""
    folder, said = region
    assert (folder / magic.NAME).stat().st_size == 4096
    assert magic.problem(folder, said) == ""
    other = magic.new_magic("run-1")
    assert magic.problem(folder, other)
    magic.write(folder, other)
    assert magic.problem(folder, said)
    assert magic.problem(folder, other) == ""


@pytest.mark.parametrize("at", [0, 17, 2048, 4095])
def test_one_byte_that_is_another_is_seen(region, at):
    """Wherever a kernel has begun to use the page."""
    folder, said = region
    page = bytearray((folder / magic.NAME).read_bytes())
    page[at] ^= 1
    (folder / magic.NAME).write_bytes(page)
    assert "another kernel used this memory" in magic.problem(folder, said)


def test_a_page_that_is_longer_shorter_gone_or_a_link_is_seen(region, tmp_path_factory):
    """Nothing is followed out of the region."""
    folder, said = region
    page = folder / magic.NAME
    whole = page.read_bytes()
    for content in (whole + b"x", whole[:-1], b""):
        page.write_bytes(content)
        assert magic.problem(folder, said)
    page.unlink()
    assert "is gone: the memory was lost" in magic.problem(folder, said)
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "page"
    elsewhere.write_bytes(whole)
    page.symlink_to(elsewhere)
    assert magic.problem(folder, said)


def test_a_page_that_cannot_be_written_is_told(tmp_path):
    """Before anybody is paused."""
    with pytest.raises(InfrastructureError, match="No such file"):
        magic.write(tmp_path / "none", "x")
