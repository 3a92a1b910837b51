"""What people are told to do about a guest that does not run: right by its reason; pasteable."""

from __future__ import annotations

import ast
import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.core.errors import GuestStranded
from harness.core.pasteable import virsh
from harness.host.advice import way_on
from harness.host.lifecycle import GuestState, StateReading
from harness.host.states import REASONS, reading

URI = "qemu+ssh://root@host/system?keyfile=/root/my key&no_verify=1"
HOSTILE = "a; touch x <&>'\" $(id) `id` \\"


def said(state: GuestState, reason: str = "unknown") -> str:
    return way_on(StateReading(state, reason), "qemu:///system", "web 1")


@pytest.mark.parametrize(
    ("state", "reason", "wanted"),
    [
        ("paused", "user", "virsh -c qemu:///system resume 'web 1'"),
        ("paused", "unknown", "virsh -c qemu:///system resume 'web 1'"),
        ("paused", "watchdog", "virsh -c qemu:///system resume 'web 1'"),
        ("suspended", "unknown", "virsh -c qemu:///system dompmwakeup 'web 1'"),
        (
            "paused",
            "ioerror",
            "its disk failed, see virsh -c qemu:///system domblkerror 'web 1'; "
            "when that is fixed: virsh -c qemu:///system resume 'web 1'",
        ),
        (
            "paused",
            "crashed",
            "its kernel crashed: virsh -c qemu:///system reset 'web 1'; "
            "virsh -c qemu:///system resume 'web 1'",
        ),
        (
            "crashed",
            "panicked",
            "virsh -c qemu:///system destroy 'web 1'; virsh -c qemu:///system start 'web 1'",
        ),
        ("shut off", "destroyed", "virsh -c qemu:///system start 'web 1'"),
    ],
)
def test_the_way_on_is_that_of_the_reason(state, reason, wanted):
    """As libvirt names states and reasons."""
    assert said(GuestState(state), reason) == wanted


@pytest.mark.parametrize("reason", ["migration", "save", "dump", "snapshot"])
def test_a_guest_that_libvirt_works_on_is_not_to_be_resumed(reason):
    """It goes on by itself; resuming it would spoil that."""
    assert " resume " not in said(GuestState.PAUSED, reason)
    assert "domjobinfo" in said(GuestState.PAUSED, reason)


def test_a_start_that_does_not_end_is_given_up_by_hand():
    """libvirt goes on with it by itself, or never."""
    way = said(GuestState.PAUSED, "starting up")
    assert "rm '/run/libvirt/qemu/web 1.xml'; systemctl restart libvirtd; harness recover" in way
    assert "if that does not end" in way
    assert " resume " not in way


def test_every_reason_that_libvirt_has_gets_an_answer():
    """But for a guest that runs."""
    for number, reason in REASONS:
        seen = reading(number, reason)
        assert bool(way_on(seen, "", "web1")) == (seen.state is not GuestState.RUNNING), seen
    assert way_on(StateReading(GuestState.GONE, "unknown"), "", "web1")
    assert way_on(StateReading(GuestState.UNKNOWN, "unknown"), "", "web1") == (
        "virsh domstate web1 --reason"
    )


@given(st.text(min_size=1).filter(lambda name: "\0" not in name and name.isprintable()))
def test_a_command_has_the_words_that_it_should_have(name):
    """Whatever the guest is called, a leading hyphen included."""
    words = shlex.split(virsh(URI, "resume", name))
    assert words[:4] == ["virsh", "-c", URI, "resume"]
    assert [word for word in words[4:] if word != "--"] == ([name] if name != "--" else [])
    assert ("--" in words) == name.startswith("-")


def test_a_real_shell_runs_what_is_pasted(tmp_path):
    """With one argument for the guest; nothing else in its name is run."""
    program = tmp_path / "virsh"
    program.write_text('#!/bin/sh\nprintf "%s\\n" "$@" >"$(dirname "$0")/seen"\n')
    program.chmod(0o755)
    pasted = GuestStranded([HOSTILE], [virsh(URI, "resume", HOSTILE)]).hint
    assert pasted.endswith("; harness recover")
    subprocess.run(
        ["/bin/sh", "-c", pasted.replace("harness recover", "true")],
        env={"PATH": f"{tmp_path}:/usr/bin:/bin"},
        cwd=tmp_path,
        check=True,
        timeout=30,
    )
    assert (tmp_path / "seen").read_text().splitlines() == ["-c", URI, "resume", HOSTILE]
    assert sorted(path.name for path in Path(tmp_path).iterdir()) == ["seen", "virsh"]


def test_a_name_that_no_terminal_shows_as_it_is_gives_way_to_the_uuid():
    assert virsh("", "resume", "a\nb", "some-uuid") == "virsh resume some-uuid"
    assert virsh("", "resume", "a\x1b[2Jb", "some-uuid") == "virsh resume some-uuid"


def _literals(tree: ast.AST) -> Iterator[str]:
    """Yield the text constants of a module, without its docstrings."""
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    docstrings = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, documented) and node.body and isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(tree):
        text = node.value if isinstance(node, ast.Constant) else None
        if isinstance(text, str) and id(node) not in docstrings:
            yield text


def test_no_message_spells_a_command_of_virsh_out_by_itself():
    """It would lack the connection and the quotes."""
    package = Path(__file__).parents[3] / "harness"
    sources = {path: path.read_text(encoding="utf-8") for path in package.rglob("*.py")}
    spelt = [
        f"{path.relative_to(package)}: {text!r}"
        for path, source in sources.items()
        if "virsh" in source  # to read all of harness takes time
        for text in _literals(ast.parse(source))
        if re.search(r"\bvirsh [a-z]", text)
    ]
    assert spelt == []
