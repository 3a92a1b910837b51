"""Manual pages of the command line, made from what `--help` says: harness(1), harness-run(1) etc.

``python -P -m scripts.man_pages FOLDER`` writes them, gzipped, as Debian wants them.
"""

from __future__ import annotations

import gzip
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import click

from harness import __version__
from harness.cli.main import cli

_WIDTH = 10_000  # roff breaks lines, not click


def pages(command: click.Command, name: str) -> Iterator[tuple[str, str]]:
    """Yield ``(name, roff)`` of a command and of every command below it."""
    context = click.Context(command, info_name=name.replace("-", " "), max_content_width=_WIDTH)
    below = []
    if isinstance(command, click.Group):
        below = [
            (one, found)
            for one in command.list_commands(context)
            if (found := command.get_command(context, one)) is not None and not found.hidden
        ]
    yield name, page(command, context, name, [one for one, _ in below])
    for one, found in below:
        yield from pages(found, f"{name}-{one}")


def page(command: click.Command, context: click.Context, name: str, below: list[str]) -> str:
    """Return one manual page."""
    usage = " ".join(command.collect_usage_pieces(context))
    called = context.info_name or name
    lines = [
        f'.TH "{name.upper()}" "1" "" "harness {__version__}" "User Commands"',
        ".SH NAME",
        f"{quoted(name)} \\- {quoted(command.get_short_help_str(limit=200))}",
        ".SH SYNOPSIS",
        f".B {quoted(called)}",
        quoted(usage),
        ".SH DESCRIPTION",
        *paragraphs(command.help or ""),
    ]
    options = [param.get_help_record(context) for param in command.get_params(context)]
    shown = [record for record in options if record is not None]
    if shown:
        lines += [".SH OPTIONS"]
        for flags, meaning in shown:
            lines += [".TP", f"\\fB{quoted(flags)}\\fR", quoted(meaning or " ")]
    if command.epilog:
        lines += [".SH NOTES", *paragraphs(command.epilog)]
    if below:
        lines += [".SH SEE ALSO", ",\n".join(f".BR {name}\\-{one} (1)" for one in below)]
    return "\n".join(lines) + "\n"


def paragraphs(text: str) -> Iterator[str]:
    """Yield paragraphs as they are written for click; those after a backspace keep their lines."""
    for block in re.split(r"\n\s*\n", text.strip()):
        lines = [line.strip("\n") for line in block.splitlines()]
        if lines and lines[0].strip() == "\b":
            yield from (".PP", ".nf", *(quoted(line) for line in lines[1:]), ".fi")
        else:
            yield from (".PP", quoted(" ".join(line.strip() for line in lines)))


def quoted(text: str) -> str:
    """Text that roff takes for nothing else."""
    text = text.replace("\\", "\\e").replace("-", "\\-")
    return f"\\&{text}" if text[:1] in (".", "'") else text


def main(folder: Path) -> None:
    """Write every page."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in pages(cli, "harness"):
        data = gzip.compress(text.encode(), mtime=0)
        (folder / f"{name}.1.gz").write_bytes(data)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
