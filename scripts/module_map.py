"""Write the list of modules in docs/map.md: each with the first sentence of its docstring.

``make map`` runs this; ``make lint`` sees that no module is missing.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from itertools import takewhile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "map.md"
#: What is above this line in the page is written by hand, what is below by this program.
MARK = "<!-- Below this line: `make map`. -->\n"
_FLOORS = [
    "core",
    "guest",
    "host",
    "results",
    "clock",
    "updates",
    "lab",
    "checks",
    "maintenance",
    "events",
    "fleet",
    "api",
    "cli",
    "testing",
]


def generated(package: Path) -> str:
    """Return the part of the page that lists the modules of ``package``, room by room."""
    lines = ["", "## At the root", "", *_modules(package, package.glob("*.py"))]
    rooms = [path.name for path in package.iterdir() if (path / "__init__.py").exists()]
    for room in sorted(rooms, key=lambda name: (_place(name), name)):
        lines += ["", f"## {room}/", "", _first_sentence(package / room / "__init__.py"), ""]
        lines += _modules(package / room, (package / room).rglob("*.py"))
    return "\n".join(lines) + "\n"


def _place(room: str) -> int:
    return _FLOORS.index(room) if room in _FLOORS else len(_FLOORS)


def _modules(top: Path, files: Iterator[Path]) -> list[str]:
    named = {path.relative_to(top).as_posix(): path for path in files}
    return [
        f"- `{name}`: {_first_sentence(path)}"
        for name, path in sorted(named.items())
        if name != "__init__.py"
    ]


def _first_sentence(path: Path) -> str:
    text = path.read_text(encoding="utf-8")
    said = ast.get_docstring(ast.parse(text)) or _first_comment(text)
    paragraph = " ".join(said.split("\n\n")[0].split()).replace("``", "`")
    paragraph = re.sub(r":[a-z]+:`~?([^`]+)`", r"`\1`", paragraph)
    sentence, stop, _ = paragraph.partition(". ")
    return sentence + ("." if stop else "")


def _first_comment(text: str) -> str:
    """Return what stands above a program that goes to a guest, which has no docstring."""
    lines = takewhile(lambda line: line.startswith("#"), text.splitlines())
    return " ".join(line.removeprefix("#").strip() for line in lines)


def page(text: str, package: Path) -> str:
    """Return the page with its generated part renewed."""
    by_hand, mark, _ = text.partition(MARK)
    return by_hand + (mark or MARK) + generated(package)


def missing(text: str, package: Path) -> list[str]:
    """Return the lines about modules that ``text`` lacks, or has too many, or that say nothing."""
    today = page(text, package)
    silent = (
        line for line in today.splitlines() if line.startswith("- `") and line.endswith("`: ")
    )
    return sorted(set(_listed(text)) ^ set(_listed(today))) + sorted(silent)


def _listed(text: str) -> list[str]:
    """Return rooms and modules, without what is said of them: that may be worded anew."""
    room = ""
    found = []
    for line in text.partition(MARK)[2].splitlines():
        room = line if line.startswith("## ") else room
        if line.startswith("- `"):
            found.append(f"{room} {line.split('`')[1]}")
    return found


def main(arguments: list[str]) -> int:
    """Renew the page, or with ``--check`` say what it lacks."""
    text = PAGE.read_text(encoding="utf-8")
    if arguments == ["--check"]:
        lacking = missing(text, ROOT / "harness")
        for line in lacking:
            sys.stderr.write(f"docs/map.md: {line} (hint: make map)\n")
        return 1 if lacking else 0
    PAGE.write_text(page(text, ROOT / "harness"), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
