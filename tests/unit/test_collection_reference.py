"""The page of the Ansible collection has all that is in it, and nothing of Ansible's markup."""

from __future__ import annotations

import re

import pytest

from scripts.collection_reference import COLLECTION, options_of, page, plain, plugins
from scripts.reference import COLLECTION as PAGE

KINDS = ("modules", "inventory", "callback", "filter")


@pytest.mark.parametrize("kind", KINDS)
def test_each_plugin_has_a_section_and_each_option_a_row(kind):
    found, text = list(plugins(kind)), page()
    files = {file.stem for file in (COLLECTION / "plugins" / kind).iterdir() if file.is_file()}
    assert {plugin.name for plugin in found} == files
    for plugin in found:
        assert f"\n### `{plugin.name}`\n" in text
        for option in options_of(plugin):
            shown = "input" if option == "_input" else f"`{option}`"
            assert f"\n| {shown} |" in text, (plugin.name, option)


def test_the_page_that_is_there_is_the_one_that_would_be_written():
    assert PAGE.read_text("utf-8") == page()


def test_nothing_of_the_markup_is_left():
    assert re.findall(r"\b(?:RV|[BCEILMOPUV])\([^)]*\)", page()) == []


@pytest.mark.parametrize(
    ("marked", "said"),
    [
        ("runs C(harness plan), with O(state=absent) for V(#3)", "runs `harness plan`, with "),
        ("by RV(harness_kvm.fleet.plan_info#module:document)", "by `document` of `plan_info`"),
        ("see L(the page,https://example.org/a)", "see [the page](https://example.org/a)"),
        ("what P(harness_kvm.fleet.waves#filter) takes", "what `harness_kvm.fleet.waves` takes"),
    ],
)
def test_markup_becomes_markdown(marked, said):
    assert plain(marked).startswith(said)
