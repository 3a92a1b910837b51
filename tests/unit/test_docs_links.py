"""Links of the documentation: on its site, in the checkout, and paths that pages name."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from pymdownx.slugs import slugify

ROOT = Path(__file__).parents[2]
PAGES = [
    *sorted(ROOT.glob("*.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
    *sorted((ROOT / "vm-images").rglob("*.md")),
]
_LINK = re.compile(r"\]\((?P<target>[^)\s#]*)(?:#(?P<anchor>[^)\s]+))?\)")
_FENCE = re.compile(r"^( *)```.*?^\1```", re.DOTALL | re.MULTILINE)
#: What looks like a path of the checkout where it stands as code.
_NAMED = re.compile(
    r"`((?:harness|docs|packaging|scripts|tests|benchmarks|vm-images)/[\w./-]+|[A-Z]+\.md)`"
)
_SLUG = slugify(case="lower")


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings."""
    text = _FENCE.sub("", page.read_text(encoding="utf-8"))
    titles = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {_SLUG(re.sub(r"[`*]|\[([^]]*)\]\([^)]*\)", r"\1", title), "-") for title in titles}


def broken(page: Path) -> list[str]:
    """Return the links of a page that lead nowhere, and the paths it names that are not there."""
    text = _FENCE.sub("", page.read_text(encoding="utf-8"))
    found = [path for path in _NAMED.findall(text) if not (ROOT / path).exists()]
    for link in _LINK.finditer(text):
        if ":" in link["target"]:
            continue
        target = (page.parent / link["target"]) if link["target"] else page
        there = target.exists()
        if there and link["anchor"] and target.suffix == ".md":
            there = link["anchor"] in anchors(target)
        if not there:
            found.append(link[0])
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_and_every_path_leads_somewhere(page):
    """As they stand in the checkout; those of the site are checked when it is built."""
    if page.name != "CHANGELOG.md":  # it names what there was
        assert broken(page) == []


def test_a_broken_link_and_a_path_that_is_not_there_are_found(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(
        "# Here\n[a](none.md) [b](#nowhere) [c](page.md#here) `docs/none.md` `docs/map.md`\n"
        "```\n[d](shown.md)\n```\n"
    )
    assert broken(page) == ["docs/none.md", "](none.md)", "](#nowhere)"]


def site(tmp_path: Path, pages: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Build a site of these pages by the project's own settings, as `make docs` does."""
    (tmp_path / "docs").mkdir()
    for name, text in pages.items():
        (tmp_path / "docs" / name).write_text(text)
    (tmp_path / "mkdocs.yml").write_text(
        f"INHERIT: {ROOT}/mkdocs.yml\ndocs_dir: docs\nsite_dir: site\nnav: [README.md, other.md]\n"
    )
    return subprocess.run(
        [sys.executable, "-P", "-m", "mkdocs", "build", "--strict"],
        cwd=tmp_path,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_the_site_needs_no_other_and_can_be_searched(tmp_path):
    """Neither to be built (a test has no network to ask) nor to be read."""
    built = site(
        tmp_path, {"README.md": "# A\n[b](other.md#b-c)\n", "other.md": "# B `c`\nmarmot\n"}
    )
    assert built.returncode == 0, built.stderr
    page = (tmp_path / "site" / "index.html").read_text()
    assert not re.search(r"""<(script|link|img)[^>]+(src|href)=["']?https?:""", page)
    assert "marmot" in (tmp_path / "site" / "search" / "search_index.json").read_text()


def test_the_site_is_not_built_with_a_link_that_leads_nowhere(tmp_path):
    """A page, an anchor, a picture, and a page that the navigation has not."""
    pages = {
        "README.md": "[a](none.md) [b](other.md#none) ![c](none.png) [d](../Makefile)\n",
        "other.md": "# B\n",
        "lost.md": "# C\n",
    }
    built = site(tmp_path, pages)
    assert built.returncode != 0
    for said in ("none.md", "#none", "none.png", "../Makefile", "lost.md"):
        assert said in built.stderr, said
