"""How many guests of an update domain are paused together, counted on real ones.

Requires: the session's lab. Leaves behind: nothing.
"""

from __future__ import annotations

import pytest

from tests.clocks import set_right

#: Of update domain 0.
BOTH = ["debian-1", "tiny-1"]


@pytest.mark.parametrize(
    ("options", "parts"),
    [(("--at-most", "1"), [["debian-1"], ["tiny-1"]]), ((), [BOTH])],
    ids=["at most one", "no limit"],
)
def test_no_more_guests_than_at_most_are_paused_together(
    lab, harness, script, tmp_path, options, parts
):
    """By what libvirt says while the update is applied; the others go on running."""
    set_right(BOTH, lab.config_file)
    seen = tmp_path / "seen"
    paused = f"virsh -q -c {lab.uri} list --state-paused --name"
    update = script(f"{paused} | sort | tr '\\n' ' ' >>{seen} && echo >>{seen}")
    ended = harness("run", *BOTH, "--update", update, "--scope", "guest", *options, "--json")
    assert ended.code == 0, ended.err
    assert sorted(line.split() for line in seen.read_text().splitlines()) == parts
    assert len(ended.record["guests"]) == len(BOTH)
