"""What a replaced QEMU changes around a guest is told, and nothing else is."""

from __future__ import annotations

from dataclasses import replace

from harness.testing.parking import eligible
from harness.updates.qemu.changes import changes

XML = """<domain><genid>{genid}</genid><devices>
<serial type='pty'><source path='{pty}'/></serial>
<console type='pty'><source path='{pty}'/></console>
<console type='file'><source path='/log'/></console>
<interface><mac address='52:54:00:00:00:01'/><target dev='{tap}'/></interface>
<interface type='user'/>{graphics}</devices></domain>"""
LOOK = eligible("web1", "uuid")


def look(genid="1", pty="/dev/pts/3", tap="vnet1", graphics="", tainted=()):
    text = XML.format(genid=genid, pty=pty, tap=tap, graphics=graphics)
    return replace(LOOK, present=text, tainted=tainted)


def test_what_stayed_is_not_told():
    """But for a terminal that somebody may have watched."""
    assert list(changes(LOOK, LOOK)) == []
    assert list(changes(look(), look())) == ["viewers of its serial were disconnected"]


def test_everything_that_changed_is_told_once():
    """Names on the host, the generation id, and what libvirt says of it since."""
    old = look(graphics="<graphics type='vnc'/>", tainted=("tainted: high privileges",))
    new = look(
        "2", "/dev/pts/9", "vnet7", tainted=(*old.tainted, "tainted: custom monitor commands")
    )
    assert list(changes(old, new)) == [
        "viewers of its vnc display were cut off",
        "viewers of its serial were disconnected; its pty is /dev/pts/9 now, not /dev/pts/3",
        "its interface 52:54:00:00:00:01 is vnet7 on the host now, not vnet1",
        "it got a new VM generation id: 1 → 2",
        "libvirt says: tainted: custom monitor commands",
    ]
