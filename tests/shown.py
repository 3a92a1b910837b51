"""The commands that the documentation shows: blocks of a shell, and commands in a sentence."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
#: What people read to use harness. Decisions and the changelog tell of their day.
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md")),
    *sorted(page for page in (ROOT / "docs").rglob("*.md") if "adr" not in page.parts),
]
_BLOCK = re.compile(r"^```(?:console|sh|shell|bash)\n(?P<text>.*?)^```$", re.DOTALL | re.MULTILINE)
_SPAN = re.compile(r"`(?P<text>(?:harness|make)\s[^`]+)`")
_BETWEEN = {"|", "||", "&&", ";", "&"}


class Shown(NamedTuple):
    """One command: its words without ``sudo``, variables and redirections, and where it stands."""

    where: str
    words: tuple[str, ...]
    in_a_sentence: bool = False


def blocks(page: Path) -> Iterator[tuple[int, str]]:
    """Yield each shell block of a page with the number of its first line."""
    text = page.read_text(encoding="utf-8")
    for block in _BLOCK.finditer(text):
        yield text.count("\n", 0, block.start()) + 2, block["text"]


def lines(block: str) -> Iterator[tuple[int, str]]:
    """Yield each command line of a block with its number; what a command prints is left out."""
    prompt = re.search(r"^\$ ", block, re.MULTILINE)
    joined, first = "", 0
    for number, line in enumerate(block.splitlines()):
        first = first if joined else number
        joined += line.removesuffix("\\")
        if line.endswith("\\"):
            continue
        if not prompt or joined.startswith("$ "):
            yield first, joined.removeprefix("$ ")
        joined = ""


def commands(line: str) -> Iterator[tuple[str, ...]]:
    """Yield the words of each command of a line that is harness or make. Raises ValueError."""
    if not re.search(r"\b(?:harness|make)\b", line):
        return
    lexer = shlex.shlex(line, posix=True, punctuation_chars="|&;")
    lexer.whitespace_split, lexer.commenters = True, "#"
    words: list[str] = []
    for word in [*lexer, ";"]:
        if word not in _BETWEEN:
            words.append(word)
            continue
        found = _stripped(words)
        if found and found[0] in ("harness", "make"):
            yield tuple(found)
        elif found[:1] == ["vagrant"] or found[:4] == ["harness", "lab", "box", "ssh"]:
            yield from (c for word in found[1:] if " " in word for c in commands(word))
        words = []


def _stripped(words: list[str]) -> list[str]:
    while words and (words[0] == "sudo" or re.match(r"--preserve-env$|\w+=", words[0])):
        words = words[1:]
    words = [word for word in words if not re.fullmatch(r"…|\[.*\](?:\.\.\.)?|\.\.\.", word)]
    return [Path(words[0]).name, *words[1:]] if words else []


def shown(page: Path) -> Iterator[Shown]:
    """Yield every command that a page shows, in a block or in a sentence."""
    name = page.relative_to(ROOT)
    for start, block in blocks(page):
        for number, line in lines(block):
            for words in commands(line):
                yield Shown(f"{name}:{start + number}", words)
    text = _BLOCK.sub(lambda block: "\n" * block[0].count("\n"), page.read_text(encoding="utf-8"))
    for span in _SPAN.finditer(text):
        for words in commands(" ".join(span["text"].split())):
            yield Shown(f"{name}:{text.count(chr(10), 0, span.start()) + 1}", words, True)
