"""Tables that a program writes into a document, between two marks that name them."""

from __future__ import annotations

import os
import platform
from pathlib import Path

DOCS = Path(__file__).parent.parent / "docs"


def table(header: list[str], rows: list[list[str]]) -> str:
    """A Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def write(file: Path, name: str, text: str) -> None:
    """Put ``text`` between ``<!-- NAME: … -->`` and ``<!-- /NAME -->``. Raises ValueError."""
    old = file.read_text(encoding="utf-8")
    begin, end = old.index(f"<!-- {name}:"), old.index(f"<!-- /{name} -->")
    begin = old.index("-->", begin) + len("-->")
    new = f"{old[:begin]}\n{text}\n{old[end:]}"
    temporary = file.with_suffix(".new")
    temporary.write_text(new, encoding="utf-8")
    os.replace(temporary, file)


def machine() -> str:
    """What these figures were taken on, in words."""
    cpu = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    memory_gib = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    return f"{os.cpu_count()} cores, {cpu}, {memory_gib:.0f} GiB, Linux {platform.release()}"
