"""RAM that is kept for a guest and needed by no dead run is told of, with what to do."""

from __future__ import annotations

import shlex

from harness.host import ram_links
from harness.maintenance.recovery.kept_ram import kept_ram


def test_it_is_told_but_for_guests_that_need_it(tmp_path):
    """With its size, and a command that can be pasted."""
    ram = tmp_path / "a ram folder"
    ram.mkdir()
    assert kept_ram((), ram) == ()
    for uuid in ("needed", "forgotten"):
        keep = ram_links.keep_folder(ram, uuid)
        ram_links.make_keep(keep)
        (keep / "ram/pc.ram").write_bytes(b"x" * (3 << 20))
    (note,) = kept_ram(("needed",), ram)
    assert note.startswith("3 MiB of RAM are kept for guest forgotten")
    pasted = shlex.split(note.rpartition(" ended: ")[2].removesuffix(")"))
    assert pasted == ["rm", "-r", str(ram_links.keep_folder(ram, "forgotten"))]
