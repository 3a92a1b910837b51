"""The prose linter: it finds what the voice rules out, where it stands, and leaves code alone."""

from __future__ import annotations

import pytest

from scripts.prose import breaches, files, main, prose_of_module, prose_of_page

PAGE = """# A page

Nobody is paused, such
that `nobody` of ours is

```console
harness run --whoever   # somebody
```
<!-- anybody --> [a link](somebody.md)
"""
MODULE = '''"""What somebody does."""

nobody = "nobody"  # a name, and a word: no prose
whoever = f"the guest {nobody} is mended ``anew``"
'''


def test_a_page_is_held_to_the_vocabulary():
    """With the place, also over the end of a line; code, comments and addresses are left alone."""
    assert list(breaches("page.md", PAGE)) == [
        "page.md:3:1: 'Nobody' names nobody: say which guest, process, user or program.",
        "page.md:3:19: Say 'so that', not 'such\nthat'.",
        "page.md:4:15: 'of ours' names nobody: say which guest, process, user or program.",
    ]


def test_the_words_of_a_module_are_held_to_it():
    """Docstrings, messages and comments; names of the code are no prose."""
    found = [line.partition(": ")[0] for line in breaches("module.py", MODULE)]
    assert found == ["module.py:1:9", "module.py:4:35"]


@pytest.mark.parametrize(
    "words",
    [
        "The run shall go on.",
        "It came to no good end.",
        "The clock was mended.",
        "That is told at the end.",
        "Resume it — which takes long — or wait — or not.",
        "Unpausing takes a while.",
        "In order to to do so, at this point in time, it is very unique.",
    ],
)
def test_each_of_these_is_a_breach(words):
    """The last one is for proselint's own checks."""
    assert list(breaches("page.md", words)) != []


def test_plain_words_are_none():
    text = "harness pauses each guest, applies the update, and resumes the guest within 30 s.\n"
    assert list(breaches("page.md", text)) == []


@pytest.mark.parametrize(("blanked", "text"), [(prose_of_page, PAGE), (prose_of_module, MODULE)])
def test_what_is_left_stands_where_it_stood(blanked, text):
    lines, kept = text.rstrip("\n").split("\n"), blanked(text).rstrip("\n").split("\n")
    assert [len(line) for line in lines] == [len(line) for line in kept]


def test_every_page_is_looked_at_and_a_breach_fails(tmp_path, capsys, monkeypatch):
    """What `make lint` runs: exit code 1, and the line on standard error."""
    names = {file.name for file in files()}
    assert {"README.md", "CHANGELOG.md", "first-maintenance.md", "window.py"} <= names
    monkeypatch.setattr("scripts.prose.ROOT", tmp_path)
    (tmp_path / "page.md").write_text("whoever\n")
    assert main([str(tmp_path / "page.md")]) == 1
    assert capsys.readouterr().err.startswith("page.md:1:1: ")
