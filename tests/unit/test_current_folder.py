"""No Python that this project starts imports what lies in the current folder: read from the tree.

``python -m`` and ``python -c`` put that folder first on the import path, unless -P or -I is said.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
#: Where a command line may be that is not in Python.
PLACES = ("Makefile", "Vagrantfile", "packaging", "scripts", "vm-images", "harness", "benchmarks")
#: ``python3 -m x``, ``"$bin/python" -c``, ``python3 -`` (a program on stdin).
_SPOKEN = re.compile(r"""\bpython[\d.]*["']?((?:\s+-[\w\[\]]*)+)""")
_SAFE = re.compile(r"\s-[\w\[]*[IP]")


def files() -> Iterator[Path]:
    """Everything of ``PLACES`` that is text."""
    for place in PLACES:
        found = ROOT / place
        for path in [found] if found.is_file() else sorted(found.rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                yield path


def spoken(text: str) -> list[str]:
    """The command lines in ``text`` that start a Python which trusts the current folder."""
    return [
        line.strip()
        for line in text.splitlines()
        for options in _SPOKEN.findall(line)
        if not _SAFE.search(options) and options.split() not in (["-V"], ["--version"])
    ]


def built(text: str) -> list[str]:
    """The lists with ``sys.executable`` in ``text`` that do not go on with -P or -I."""
    found: list[str] = []
    if "executable" not in text:  # to read every file takes time
        return found
    for node in ast.walk(ast.parse(text)):
        parts = getattr(node, "elts", None) or getattr(node, "args", None)
        if not isinstance(parts, list) or not parts:
            continue
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "Path":
            continue  # a file that is looked at, no command
        for part, following in zip(parts, [*parts[1:], None], strict=True):
            if isinstance(part, ast.Attribute) and ast.unparse(part) == "sys.executable":
                option = following.value if isinstance(following, ast.Constant) else ""
                if not re.match(r"-[A-Za-z]*[IP]", str(option)):
                    found.append(ast.unparse(node))
    return found


def test_no_python_of_ours_trusts_the_current_folder():
    """Use ``harness.core.process_state.python_module``; elsewhere ``-P`` or ``-I``."""
    breaches = {}
    for path in files():
        try:
            text = path.read_text()
        except UnicodeDecodeError:
            continue
        found = spoken(text) + (built(text) if path.suffix == ".py" else [])
        if found and path != ROOT / "harness" / "__main__.py":  # which takes the folder off itself
            breaches[str(path.relative_to(ROOT))] = found
    assert breaches == {}


@pytest.mark.parametrize(
    "line",
    [
        "python3 -m venv x",
        "\t@$(BIN)/python -m benchmarks.soak",
        '"$checkout/.venv/bin/python" -c "import json"',
        'python3 - "$disk" <<X',
        "ExecStart=/usr/bin/python3.12 -u -m harness nightly",
    ],
)
def test_the_next_one_would_be_found(line):
    """In any way to write it."""
    assert spoken(line)
    assert not spoken(re.sub(r" -(\w*)", r" -P\1", line, count=1))


@pytest.mark.parametrize(
    "text",
    [
        "run([sys.executable, '-m', 'harness'])",
        "x = [*(sys.executable, '-m', 'harness')]",
        "run([sys.executable, *words])",
        "os.execl(sys.executable, '-c', 'pass')",
    ],
)
def test_the_next_list_would_be_found(text):
    """A list, a tuple, arguments; or options that are not seen."""
    assert built(text)
    assert not built("run([sys.executable, '-P', '-m', 'harness'])")
