"""`harness doctor --prove windows` on a real guest, which is a Linux: what is not about Windows.

Requires: the session's lab. Leaves behind: nothing.
"""

from __future__ import annotations

import json

import pytest

WINDOWS_ONLY = {"PowerShell", "what lives there", "time service"}


@pytest.mark.parametrize("access", ["ssh", "agent"])
def test_every_look_that_a_linux_can_answer_passes(lab, harness, access):
    """By SSH and by qemu-ga: login, boot, clock, right, step, guest agent, kernel log."""
    arguments = ("--config", str(lab.config_file), "--prove", "windows", "debian-1", "--json")
    ended = harness("doctor", *arguments, HARNESS_ACCESS=access)
    assert ended.code == 0, ended.out + ended.err
    proofs = {one["name"]: one for one in json.loads(ended.out)["proofs"]}
    skipped = {name for name, one in proofs.items() if one["outcome"] == "skip"}
    assert skipped - {"guest agent"} == WINDOWS_ONLY, proofs
    assert {one["outcome"] for one in proofs.values()} == {"pass", "skip"}
    assert proofs["login"]["detail"].startswith(f"by {access}, in sh; linux")
    assert "debian-1" not in ended.out
