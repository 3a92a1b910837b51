"""What the kernel's table of mounts tells."""

from __future__ import annotations

from harness.host.mounts import still_written

TABLE = """\
22 28 0:21 / /proc rw,nosuid - proc proc rw
28 1 8:1 / / rw,relatime - ext4 /dev/sda1 rw,errors=remount-ro
30 28 8:2 / /srv/a\\040b ro,relatime shared:7 master:1 - xfs /dev/sda2 rw
31 28 8:3 / /boot rw,relatime shared:9 - ext4 /dev/sda3 ro
32 28 0:40 / /net rw - nfs host:/export rw
"""


def test_file_systems_on_disks_that_are_written_to_are_found(tmp_path):
    """By the file system's own option: a mount of it that is read-only is one of several."""
    table = tmp_path / "mountinfo"
    table.write_text(TABLE)
    assert [(one.where, one.device) for one in still_written(table)] == [
        ("/", "8:1"),
        ("/srv/a b", "8:2"),
    ]
    assert [one.options for one in still_written(table)] == [("rw", "relatime"), ("ro", "relatime")]


def test_a_table_that_cannot_be_read_keeps_nobody_waiting(tmp_path):
    """Then nothing is known to be written to."""
    assert still_written(tmp_path / "none") == []
