"""What was tried of libvirt and QEMU is recorded in one file, and the page says the same."""

from __future__ import annotations

from pathlib import Path

from harness.updates.qemu.tried import release, rows, works

PAGE = Path(__file__).parents[4] / "docs/explanation/qemu.md"


def test_the_page_has_every_row_and_no_other():
    """A pair that was tried is written down once."""
    said = [
        f"| {row.libvirt} (Debian {row.debian}) | {' → '.join(row.qemu)} | "
        f"{row.refused or 'works'} |"
        for row in rows()
    ]
    lines = PAGE.read_text().splitlines()
    first = lines.index("| libvirt | QEMU | |") + 2
    assert lines[first : first + len(said)] == said
    assert not lines[first + len(said)].startswith("|")


def test_only_what_was_tried_counts():
    """Neither a release between two of them nor a pair that was refused; there and back each."""
    assert works((9, 0), (7, 2), (10, 0))
    assert works((11, 3), (10, 0), (7, 2))
    assert works((9, 0), (7, 2), (7, 2))
    assert not works((10, 0), (7, 2), (10, 0))
    assert not works((9, 0), (7, 2), (8, 2))
    assert not works((12, 9), (10, 0), (11, 1))
    assert not works((9, 0), (11, 1), (11, 1))


def test_versions_are_compared_as_numbers():
    """10 is more than 7."""
    assert release("10.0.2 (Debian 1:10.0.2)") > release("7.2.22")
