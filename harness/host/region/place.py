"""Where the region is: `memmap=` of a kernel's command line, `/proc/iomem`, and a free place. Pure.

``memmap=4G!0x140000000`` has a kernel treat 4 GiB from that address on as persistent memory: it is
no RAM of the kernel's, and a DAX file system on it is memory that the next kernel finds unchanged.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from harness.core.errors import UsageError

GIB = 1 << 30
#: What the kernel manages memory by: a region may not share a section with RAM.
SECTION = 128 << 20
#: Devices that address 32 bits need what is below.
LOWEST = 4 * GIB
#: What the host itself keeps, at the least.
LEFT_TO_HOST = GIB
RAM, PERSISTENT = "System RAM", "Persistent Memory (legacy)"
_UNITS = {"K": 1 << 10, "M": 1 << 20, "G": GIB, "T": 1 << 40}
_NUMBER = re.compile(r"(0[xX][0-9a-fA-F]+|0[0-7]*|[1-9][0-9]*)([kKmMgGtT]?)")
_SPAN = re.compile(r"( *)([0-9a-f]+)-([0-9a-f]+) : (.*)")
#: Arguments that decide what is RAM; from ``--`` on they are for init, and decide nothing.
_OF_MEMORY = ("memmap", "mem")


@dataclass(frozen=True, order=True)
class Region:
    """A range of physical addresses; bytes."""

    start: int
    size: int

    @property
    def end(self) -> int:
        """The first address behind it."""
        return self.start + self.size

    @property
    def argument(self) -> str:
        """``memmap=4096M!0x140000000``, for a kernel's command line."""
        return f"memmap={self.size >> 20}M!{self.start:#x}"

    def __str__(self) -> str:
        """``4096 MiB at 0x140000000``."""
        return f"{self.size >> 20} MiB at {self.start:#x}"


@dataclass(frozen=True)
class Span:
    """One range of ``/proc/iomem`` that is no part of another."""

    start: int
    end: int
    """The first address behind it."""
    name: str


def spans(iomem: str) -> list[Span]:
    """Return the outermost ranges of ``/proc/iomem``; all of them 0 for users but root."""
    found = []
    for line in iomem.splitlines():
        match = _SPAN.fullmatch(line)
        if match is not None and not match[1]:
            found.append(Span(int(match[2], 16), int(match[3], 16) + 1, match[4]))
    return found


def is_set_aside(region: Region, iomem: str) -> bool:
    """Return True if the running kernel has exactly this range as persistent memory."""
    return Span(region.start, region.end, PERSISTENT) in spans(iomem)


def words(line: str) -> list[str]:
    """Return the arguments of a kernel's command line as the kernel reads them, up to ``--``."""
    found: list[str] = []
    word, quoted = "", False
    for letter in f"{line} ":
        if letter == '"':
            quoted = not quoted
        elif letter.isspace() and not quoted:
            if word == "--":
                return found
            found += [word] if word else []
            word = ""
        else:
            word += letter
    return found + ([word.strip()] if word.strip() else [])


def of_memory(line: str) -> tuple[str, ...]:
    """Return what decides which memory a kernel uses: its `memmap=` and `mem=`, in order."""
    return tuple(one for one in words(line) if one.partition("=")[0] in _OF_MEMORY)


def regions(line: str) -> list[Region]:
    """Return the regions that a kernel with this command line sets aside."""
    found = []
    for word in words(line):
        name, _, value = word.partition("=")
        for part in value.split(",") if name == "memmap" else ():
            size, mark, start = part.partition("!")
            if mark and (a := _number(size)) is not None and (b := _number(start)) is not None:
                found.append(Region(b, a))
    return found


def size_of(text: str) -> int:
    """Return ``4G`` in bytes: a size for a region. Raises UsageError."""
    match = re.fullmatch(r"([1-9][0-9]*)([mMgGtT])", text)
    if match is None:
        raise UsageError(
            f"the size of a region is a whole number with M, G or T, not {text!r}", hint="4G, 4096M"
        )
    found = int(match[1]) * _UNITS[match[2].upper()]
    if found % SECTION:
        raise UsageError(
            f"a region of {text} is no multiple of {SECTION >> 20} MiB, by which the kernel "
            "manages memory",
            hint=f"{max(1, found // SECTION) * (SECTION >> 20)}M, or whole GiB",
        )
    return found


def choose(iomem: str, size: int, ours: Region | None = None) -> Region:
    """Return a place for a region of ``size`` bytes: as high as it goes, at a whole GiB.

    ``ours``: the region that is set up already; it stays where it is if its size does, and its
    place is free for another. Raises UsageError where there is no room.
    """
    known = spans(iomem)
    if not any(span.end > 1 for span in known):
        raise UsageError("/proc/iomem tells no addresses", hint="run it as root")
    free = list(_joined(_free(known, ours)))
    if ours is not None and ours.size == size and any(_holds(one, ours) for one in free):
        return ours
    places = [place for one in free if (place := _highest(one, size)) is not None]
    left = sum(span.end - span.start for span in free) - size
    if places and left >= LEFT_TO_HOST:
        return max(places)
    most = _most(free)
    raise UsageError(
        f"no room for a region of {size >> 20} MiB: it has to begin at a whole GiB from "
        f"{LOWEST >> 30} GiB on, in one range of {RAM}, and leave {LEFT_TO_HOST >> 20} MiB to the "
        "host",
        hint=f"{most >> 20}M would fit" if most else f"no {RAM} of this host would do",
    )


def _free(known: Iterable[Span], ours: Region | None) -> Iterator[Span]:
    """RAM, and what is no RAM only because of our own region."""
    for span in known:
        own = ours is not None and (span.start, span.end) == (ours.start, ours.end)
        if span.name == RAM or (own and span.name == PERSISTENT):
            yield span


def _joined(free: Iterable[Span]) -> Iterator[Span]:
    last: Span | None = None
    for span in sorted(free, key=lambda one: one.start):
        if last is not None and last.end == span.start:
            last = Span(last.start, span.end, last.name)
            continue
        if last is not None:
            yield last
        last = span
    if last is not None:
        yield last


def _holds(span: Span, region: Region) -> bool:
    return span.start <= region.start and region.end <= span.end


def _highest(span: Span, size: int) -> Region | None:
    start = (span.end - size) // GIB * GIB
    return Region(start, size) if start >= max(span.start, LOWEST) else None


def _most(free: Iterable[Span]) -> int:
    """Return the largest size that would fit; bytes, 0: none."""
    free = list(free)
    total = sum(span.end - span.start for span in free)
    room = [span.end - max(-(-span.start // GIB) * GIB, LOWEST) for span in free]
    most = min(max(room, default=0), total - LEFT_TO_HOST)
    return max(0, most // SECTION * SECTION)


def _number(text: str) -> int | None:
    """A number as the kernel's ``memparse`` reads it."""
    match = _NUMBER.fullmatch(text)
    if match is None:
        return None
    base = 16 if match[1][:2].lower() == "0x" else 8 if match[1].startswith("0") else 10
    return int(match[1], base) * _UNITS.get(match[2].upper(), 1)
