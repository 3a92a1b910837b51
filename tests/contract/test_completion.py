"""What a shell completes, asked of the real program as a shell asks it."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from harness.core.records import Outcome
from harness.testing.runs import a_folder, a_guest, a_run

NODE = """
<node xmlns:test='http://libvirt.org/schemas/domain/test/1.0'>
  <domain type='test'><name>web-1</name><memory>1024</memory><os><type>hvm</type></os></domain>
  <domain type='test'><name>web-2</name><memory>1024</memory><os><type>hvm</type></os></domain>
</node>
"""


@pytest.fixture
def complete(tmp_path):
    """Return the words that the program offers after these, the last of them unfinished."""
    (tmp_path / "node.xml").write_text(NODE)
    (tmp_path / "harness.toml").write_text('[[guest]]\nname = "wiki"\n')
    a_folder(tmp_path / "state", a_run(a_guest(), run_id="r-1", outcome=Outcome.PASS))

    def ask(*words: str, **environment: str) -> list[str]:
        typed = ["harness", *words]
        asked = subprocess.run(
            [sys.executable, "-P", "-m", "harness"],
            env={
                **os.environ,
                "HARNESS_STATE_DIR": str(tmp_path / "state"),
                "HARNESS_URI": f"test://{tmp_path / 'node.xml'}",
                "_HARNESS_COMPLETE": "bash_complete",
                "COMP_WORDS": " ".join(typed),
                "COMP_CWORD": str(len(typed) - 1),
                **environment,
            },
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert (asked.returncode, asked.stderr) == (0, "")
        return [line.partition(",")[2] for line in asked.stdout.splitlines() if line]

    return ask


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (("r",), ["run", "recover", "report"]),
        (("run", "w"), ["web-1", "web-2", "wiki"]),
        (("run", "web-1", "w"), ["web-2", "wiki"]),
        (("plan", "--except", "web"), ["web-1", "web-2"]),
        (("clock", "show", "wi"), ["wiki"]),
        (("run", "--kind", "s"), ["stand-in", "sysctl"]),
        (("run", "--scope", ""), ["host", "guest"]),
        (("clock", "correct", "--method", "ch"), ["chronyd"]),
        (("events", "rehearse", "--fault", "4"), ["410", "429"]),
        (("events", "rehearse", "live"), ["live-migration"]),
        (("history", "trend", "over"), ["overhead_s"]),
        (("history", "show", "r"), ["r-1"]),
        (("report", "r"), ["r-1"]),
        (("events", "approve", ""), []),
    ],
)
def test_a_shell_completes_what_is_there(complete, words, offered):
    assert complete(*words) == offered


def test_what_cannot_be_looked_up_is_not_completed_and_says_nothing(complete, tmp_path):
    """A libvirt that is not there leaves the configuration's; a broken configuration nothing."""
    assert complete("run", "w", HARNESS_URI="qemu+unix:///system?socket=/gone") == ["wiki"]
    (tmp_path / "harness.toml").write_text("budget_s = ")
    assert complete("run", "w") == []
