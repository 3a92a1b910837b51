"""Manual pages, made from what the commands say of themselves."""

from __future__ import annotations

import gzip
import shutil
import subprocess

import click
import pytest

from harness.cli.main import COMMANDS, cli
from scripts.man_pages import main, pages, paragraphs, quoted


def test_every_command_has_a_page_with_its_options():
    """Those below a group, too; the first page leads to the others."""
    found = dict(pages(cli, "harness"))
    assert {f"harness-{name}" for name in COMMANDS} <= set(found)
    assert "\\-\\-budget" in found["harness-run"]
    assert "harness trust web1" in found["harness-trust"]
    assert "harness-events-serve" in found
    assert ".BR harness\\-run (1)" in found["harness"]


def test_text_is_no_request_of_roff():
    """A line that begins with a dot, a backslash, a hyphen that can be copied."""
    assert quoted(".so /etc/passwd") == "\\&.so /etc/passwd"
    assert quoted("a\\b --c") == "a\\eb \\-\\-c"
    assert list(paragraphs("\b\nA:\n  b")) == [".PP", ".nf", "A:", "  b", ".fi"]


@pytest.mark.skipif(shutil.which("groff") is None, reason="there is no groff")
def test_groff_has_nothing_to_complain_of(tmp_path):
    """Warnings are errors here."""
    main(tmp_path)
    for page in tmp_path.glob("*.gz"):
        page.with_suffix("").write_bytes(gzip.decompress(page.read_bytes()))
    texts = sorted(tmp_path.glob("*.1"))
    assert len(texts) > len(COMMANDS)
    words = ["groff", "-man", "-ww", "-z", "-K", "utf-8", *texts]
    done = subprocess.run(words, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")  # which names the page


def test_a_page_says_what_click_says():
    """Name, usage, help, options, epilog."""

    @click.command(help="Do it.\n\nAt once.", epilog="\b\nExample:\n  x --now")
    @click.option("--now", is_flag=True, help="Not later.")
    def command(now):
        pass

    ((name, text),) = pages(command, "x")
    assert name == "x"
    for words in ("x \\- Do it.", "At once.", "\\fB\\-\\-now\\fR\nNot later.", "  x \\-\\-now"):
        assert words in text
