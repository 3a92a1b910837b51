"""The name that installers know this project by: ``harness`` on the Python index is a stranger."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from harness.core.extras import DISTRIBUTION, LIBRARIES, how_to_install

ROOT = Path(__file__).parents[3]
#: An extra of ``harness``, or an installer that is given that name; ours has another.
_STRANGER = re.compile(
    r"""(?<![\w.-])harness\[[a-z]"""
    r"""|\b(?:pipx?|uv|poetry|pdm)\b[^\n#|&;]*?\b(?:install|add|inject)\b[^\n#|&;]*?"""
    r"""[\s'"`]harness(?:[\s'"`,;\[]|[=<>~!]=|$)(?!-)""",
    re.MULTILINE,
)
_WHERE = [
    *("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "Makefile", "Vagrantfile"),
    *("pyproject.toml", "docs", "harness", "packaging", "scripts", "vm-images", "benchmarks"),
]
#: The record of the decision quotes what must not be said anywhere else.
_QUOTED = ROOT / "docs" / "adr" / "0020-distribution-name.md"


def texts() -> list[Path]:
    """Return the files that people read or that speak to people."""
    found = [ROOT / name for name in _WHERE]
    files = [file for top in found for file in (top.rglob("*") if top.is_dir() else [top])]
    skipped = {".pyc", ".svg", ".png"}
    return [
        file
        for file in files
        if file.is_file() and file.suffix not in skipped and file not in (_QUOTED,)
    ]


def test_nobody_is_told_to_install_the_stranger():
    """No page, message, script or requirement names ``harness`` as something to install."""
    files = texts()
    assert len(files) > 200
    told = [
        f"{file.relative_to(ROOT)}: {match.group()}"
        for file in files
        for match in _STRANGER.finditer(file.read_text(encoding="utf-8", errors="replace"))
    ]
    assert told == []


@pytest.mark.parametrize(
    ("text", "is_told"),
    [
        ("pip install 'harness[postgresql]'", True),
        ("pip install harness", True),
        ("pipx install harness==0.1.0", True),
        ("uv tool install `harness`", True),
        ("uv add --dev harness", True),
        ('"harness[all]"', True),
        ("pip install 'harness-kvm[all]'", False),
        ("uv tool install harness-kvm", False),
        ("uv run harness doctor", False),
        ("pip install . && sudo harness doctor", False),
        ("self.harness[name]", False),
    ],
)
def test_the_rule_sees_the_stranger_and_lets_us_pass(text, is_told):
    assert bool(_STRANGER.search(text)) == is_told


def test_all_agree_on_the_name():
    """The project, its lock file and the hints have one name, and the command keeps its own."""
    stated = tomllib.loads((ROOT / "pyproject.toml").read_text())
    locked = tomllib.loads((ROOT / "uv.lock").read_text())
    assert stated["project"]["name"] == DISTRIBUTION != "harness"
    assert stated["project"]["scripts"].keys() == {"harness"}
    ours = [found for found in locked["package"] if found["source"] == {"editable": "."}]
    assert [found["name"] for found in ours] == [DISTRIBUTION]
    assert "harness" not in {found["name"] for found in locked["package"]}


@pytest.mark.parametrize("extra", LIBRARIES)
def test_the_hint_names_our_distribution(extra):
    assert how_to_install(extra) == f"pip install 'harness-kvm[{extra}]'"


def test_the_page_about_installing_lists_every_extra_and_those_of_the_package():
    """In its table, in brackets; the Debian package's as ``make deb`` asks for them."""
    extras = set(
        tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    )
    page = (ROOT / "docs/how-to/install.md").read_text()
    assert set(re.findall(r"^\| `\[(\w+)\]` \|", page, re.MULTILINE)) == extras
    built = re.findall(r"--extra (\w+)", (ROOT / "scripts/build-deb").read_text())
    listed = ", ".join(f"`{one}`" for one in built[:-1])
    assert f"It has the extras {listed} and `{built[-1]}`" in page
