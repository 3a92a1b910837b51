"""What libvirt has written down of the process of a guest."""

from __future__ import annotations

import pytest

from harness.host.qemu_process import is_started

STATUS = """<domstatus state='paused' reason='starting up' pid='{pid}'>
<domain><uuid>u-1</uuid></domain></domstatus>"""


@pytest.mark.parametrize(
    ("text", "known"),
    [
        (STATUS.format(pid=77), True),
        (STATUS.format(pid=0), False),  # libvirt was killed before it knew
        (STATUS.format(pid=77).replace("u-1", "u-2"), False),  # another guest's
        ("<domst", False),  # it is being written
    ],
)
def test_a_start_has_a_process_if_libvirt_says_so(tmp_path, text, known):
    """In the file that it keeps for each active guest."""
    (tmp_path / "web1.xml").write_text(text)
    assert is_started("u-1", "web1", tmp_path) is known
    assert not is_started("u-1", "web1", tmp_path / "missing")
