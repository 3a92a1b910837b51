"""Where a region is: what kernels' command lines say, what /proc/iomem tells, and a free place."""

from __future__ import annotations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as some

from harness.core.errors import UsageError
from harness.host.region.place import (
    GIB,
    LEFT_TO_HOST,
    LOWEST,
    SECTION,
    Region,
    choose,
    is_set_aside,
    of_memory,
    regions,
    size_of,
    spans,
    words,
)

#: A machine of 4 GiB: 2 GiB below what devices have, 2 GiB above 4 GiB.
Q35 = """\
00000000-00000fff : Reserved
00001000-0009fbff : System RAM
00100000-7ffdffff : System RAM
  01000000-02013727 : Kernel code
b0000000-bfffffff : PCI MMCONFIG 0000 [bus 00-ff]
fec00000-fec003ff : IOAPIC 0
100000000-17fffffff : System RAM
  120000000-12fffffff : Crash kernel
"""
MIB = 1 << 20


def table(*known: tuple[int, int, str]) -> str:
    return "".join(f"{start:08x}-{end - 1:08x} : {name}\n" for start, end, name in known)


def test_the_highest_whole_gib_is_taken():
    """The host's own memory stays in one piece below it."""
    assert choose(Q35, GIB) == Region(5 * GIB, GIB)
    assert choose(Q35, 2 * GIB) == Region(4 * GIB, 2 * GIB)
    assert choose(Q35, 512 * MIB) == Region(5 * GIB, 512 * MIB)


@pytest.mark.parametrize(
    ("iomem", "size", "hint"),
    [
        (Q35, 3 * GIB, "2048M would fit"),
        (table((MIB, 3 * GIB, "System RAM")), GIB, "no System RAM"),
        (table((0, GIB, "System RAM"), (4 * GIB, 5 * GIB, "Reserved")), GIB, "no System RAM"),
        (table((4 * GIB, 5 * GIB, "System RAM")), GIB, "no System RAM"),
    ],
)
def test_where_there_is_no_room_that_is_said_with_what_would_fit(iomem, size, hint):
    """A range too small, nothing above 4 GiB, and nothing that would be left to the host."""
    with pytest.raises(UsageError, match="no room for a region") as told:
        choose(iomem, size)
    assert hint in told.value.hint


def test_who_may_not_see_addresses_is_told():
    """The kernel shows zeroes to anybody but root."""
    hidden = "00000000-00000000 : System RAM\n  00000000-00000000 : Kernel code\n"
    with pytest.raises(UsageError, match="tells no addresses"):
        choose(hidden, GIB)


def test_a_region_of_ours_stays_where_it_is_and_its_place_is_free_for_another_size():
    """Set up again: the same; another size: as if it were not there. Another's is never touched."""
    line = Q35.replace(
        "100000000-17fffffff : System RAM",
        "100000000-13fffffff : System RAM\n140000000-17fffffff : Persistent Memory (legacy)",
    )
    ours = Region(5 * GIB, GIB)
    assert choose(line, GIB, ours) == ours
    assert choose(line, 2 * GIB, ours) == Region(4 * GIB, 2 * GIB)
    assert choose(line, GIB) == Region(4 * GIB, GIB)
    assert choose(Q35, GIB, Region(4 * GIB, GIB)) == Region(4 * GIB, GIB)
    assert choose(Q35, GIB, Region(8 * GIB, GIB)) == Region(5 * GIB, GIB)


@some.composite
def machines(draw: some.DrawFn) -> tuple[list[tuple[int, int, str]], int]:
    """Ranges one after another, with and without holes between them, and a size."""
    at, known = 0, []
    for _ in range(draw(some.integers(1, 8))):
        at += draw(some.integers(0, 40)) * 97 * MIB
        size = draw(some.integers(1, 90)) * 111 * MIB
        name = draw(some.sampled_from(["System RAM", "System RAM", "Reserved", "PCI Bus 0000:00"]))
        known.append((at, at + size, name))
        at += size
    return known, draw(some.integers(1, 64)) * SECTION


@given(machines())
def test_a_place_is_ram_that_can_be_spared_and_nothing_else(machine):
    """In RAM as a whole, at a whole GiB above 4 GiB; the host keeps enough."""
    known, size = machine
    try:
        found = choose(table(*known), size)
    except UsageError:
        assume(False)
    assert found.size == size
    assert found.start % GIB == 0
    assert found.start >= LOWEST
    ram = [one for one in known if one[2] == "System RAM"]
    assert sum(end - start for start, end, _ in ram) - size >= LEFT_TO_HOST
    for start, end, name in known:
        if name != "System RAM":
            assert found.end <= start or end <= found.start
    covered = sum(max(0, min(end, found.end) - max(start, found.start)) for start, end, _ in ram)
    assert covered == size


@given(machines())
def test_a_refusal_tells_a_size_that_is_not_refused(machine):
    """What would fit does fit; where nothing is told, nothing does."""
    known, size = machine
    try:
        choose(table(*known), size)
    except UsageError as error:
        most, unit, _ = str(error.hint).partition("M would fit")
        if unit:
            assert choose(table(*known), int(most) * MIB).size == int(most) * MIB
            assert int(most) * MIB < size
        else:
            with pytest.raises(UsageError):
                choose(table(*known), SECTION)


@given(some.integers(4, 1 << 20), some.integers(1, 1 << 16), some.text("ab =!-", max_size=9))
def test_what_is_written_for_a_kernel_is_read_back(gib, sections, more):
    """Whatever stands around it, as long as it is an argument of its own."""
    region = Region(gib * GIB, sections * SECTION)
    assume("--" not in more)
    assert regions(f"quiet {more} {region.argument} root=/dev/vda") == [region]


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("memmap=1G!4G", [(4 * GIB, GIB)]),
        ("memmap=0x40000000!0x100000000 x", [(4 * GIB, GIB)]),
        ('"memmap=1g!4g"', [(4 * GIB, GIB)]),
        ("memmap=1G!4G,512M!8G", [(4 * GIB, GIB), (8 * GIB, 512 * MIB)]),
        ("memmap=1048576K!010000000000", [(GIB, GIB)]),
        ("memmap=1G$4G memmap=1G@4G memmap=exactmap memmap=!4G memmap=1G!", []),
        ("quiet -- memmap=1G!4G", []),
        ('what="x memmap=1G!4G"', []),
        ("xmemmap=1G!4G", []),
        ("", []),
    ],
)
def test_a_command_line_is_read_as_the_kernel_reads_it(line, found):
    """Behind ``--``, or inside of another argument, it sets nothing aside."""
    assert regions(line) == [Region(*one) for one in found]


def test_everything_that_decides_about_memory_is_kept_in_order():
    """A later `memmap=1G@4G` would give the region back to the kernel."""
    line = 'a=b memmap=1G!4G mem=8G "quiet x" memmap=1G@4G -- mem=1G'
    assert of_memory(line) == ("memmap=1G!4G", "mem=8G", "memmap=1G@4G")
    assert words('a "b c" d="e f"') == ["a", "b c", "d=e f"]


def test_a_region_is_there_if_the_kernel_has_exactly_it():
    """Not a part of it, and not RAM."""
    iomem = "140000000-17fffffff : Persistent Memory (legacy)\n  140000000-17fffffff : namespace\n"
    assert is_set_aside(Region(5 * GIB, GIB), iomem)
    assert not is_set_aside(Region(5 * GIB, GIB // 2), iomem)
    assert not is_set_aside(Region(4 * GIB, 2 * GIB), Q35)
    assert len(spans(iomem)) == 1


@pytest.mark.parametrize(
    ("text", "size"), [("4G", 4 * GIB), ("1t", 1024 * GIB), ("512m", 512 * MIB)]
)
def test_a_size_is_read(text, size):
    """GiB, TiB, MiB."""
    assert size_of(text) == size


@pytest.mark.parametrize("text", ["", "0G", "50%", "4", "-1G", "4K", "1.5G", "4G\nx"])
def test_a_size_that_is_none_is_refused(text):
    """A share of the memory is none: what is set aside has to be known before."""
    with pytest.raises(UsageError, match="whole number with M, G or T"):
        size_of(text)


def test_a_size_that_no_kernel_would_take_is_refused_with_the_next_smaller():
    """Sections of memory are not shared."""
    with pytest.raises(UsageError, match="no multiple of 128 MiB") as told:
        size_of("1000M")
    assert "896M" in told.value.hint
