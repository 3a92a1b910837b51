"""Kernel modules, with a folder that plays /sys/module and programs that play kmod; see tests/kvm
for real ones."""

from __future__ import annotations

import os
from typing import Any

import pytest

from harness.core.errors import ConfigError, UpdateFailed
from harness.core.settings import Scope
from harness.core.timebase import Deadline
from harness.updates.kernel_module import KernelModuleSettings, KernelModuleUpdate
from harness.updates.protocol import UpdateContext

#: $SYS is /sys/module; `helper` is what module `agent` depends on.
PROGRAMS = {
    "modprobe": """
case "$1" in
--dry-run) [ "$2" = agent ] || { echo "modprobe: FATAL: Module $2 not found." >&2; exit 1; };;
--show-depends) echo "insmod /lib/helper.ko "; echo "insmod /lib/agent.ko.xz ";;
*) for one in helper agent; do
       mkdir -p $SYS/$one/parameters $SYS/$one/holders
       echo live >$SYS/$one/initstate; echo 0 >$SYS/$one/refcnt
   done
   shift; for word; do echo "${word#*=}" >$SYS/agent/parameters/${word%%=*}; done
   [ ! -e $SYS/broken ] || exit 1;;
esac""",
    "modinfo": 'echo "level:how much (int)"',
    "rmmod": "rm -r $SYS/$1",
}


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A kernel with one module built in, one in use, and one with a parameter."""
    programs, root = tmp_path / "bin", tmp_path / "module"
    programs.mkdir()
    root.mkdir()
    for name, body in PROGRAMS.items():
        (programs / name).write_text(f"#!/bin/sh\nSYS={root}\n{body}\n")
        (programs / name).chmod(0o755)
    (root / "builtin" / "parameters").mkdir(parents=True)
    loaded(root, "used", users="2")
    (root / "used" / "holders" / "user").mkdir(parents=True)
    loaded(root, "tuned", limit="5", flag="Y")
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    return root


def loaded(root, name: str, users: str = "0", **parameters: str) -> None:
    (root / name / "parameters").mkdir(parents=True)
    (root / name / "initstate").write_text("live\n")
    (root / name / "refcnt").write_text(f"{users}\n")
    for key, value in parameters.items():
        (root / name / "parameters" / key).write_text(f"{value}\n")


@pytest.fixture
def context(tmp_path):
    (tmp_path / "run").mkdir()
    return UpdateContext(f"run-{tmp_path.name}", tmp_path / "run", "0", (), tmp_path, 30.0)


def update(root, module: str, action: Any = "load", *parameters: str) -> KernelModuleUpdate:
    settings = KernelModuleSettings(module=module or None, action=action, parameters=parameters)
    return KernelModuleUpdate(settings, root=root)


def soon() -> Deadline:
    return Deadline.after(20)


def prepared(root, context, *words: str) -> KernelModuleUpdate:
    one = update(root, *words)
    one.check()
    one.prepare(context, soon())
    return one


def names(root) -> set[str]:
    return {path.parent.name for path in root.glob("*/initstate")}


def test_a_module_is_loaded_and_unloaded_again(root, context):
    """With its parameter; the rollback takes away what it brought along too, and nothing else."""
    before = names(root)
    one = prepared(root, context, "agent", "load", "level=3")
    assert one.apply(context, soon()).detail == "agent loaded"
    one.verify(context, soon())
    assert (root / "agent" / "parameters" / "level").read_text() == "3\n"
    one.rollback(context, soon())
    assert names(root) == before


def test_a_dependency_that_was_there_before_stays(root, context):
    loaded(root, "helper")
    one = prepared(root, context, "agent")
    one.apply(context, soon())
    one.rollback(context, soon())
    assert "helper" in names(root)
    assert "agent" not in names(root)


def test_a_module_that_fails_to_load_leaves_nothing(root, context):
    """modprobe says no, half-way."""
    one = prepared(root, context, "agent")
    (root / "broken").touch()
    with pytest.raises(UpdateFailed, match="modprobe ended with status 1"):
        one.apply(context, soon())
    one.rollback(context, soon())
    assert "agent" not in names(root)


def test_a_module_is_unloaded_and_comes_back_with_its_parameters(root, context):
    loaded(root, "agent", level="7")
    one = prepared(root, context, "agent", "unload")
    one.apply(context, soon())
    one.verify(context, soon())
    assert "agent" not in names(root)
    one.rollback(context, soon())
    assert (root / "agent" / "parameters" / "level").read_text() == "7\n"


def test_a_parameter_is_changed_and_put_back(root, context):
    """Y and 1 are the same."""
    one = prepared(root, context, "tuned", "parameter", "limit=6", "flag=0")
    one.apply(context, soon())
    one.verify(context, soon())
    (root / "tuned" / "parameters" / "flag").write_text("N\n")
    one.verify(context, soon())
    one.rollback(context, soon())
    assert (root / "tuned" / "parameters" / "limit").read_text() == "5\n"
    (root / "tuned" / "parameters" / "limit").write_text("9\n")
    with pytest.raises(UpdateFailed, match="parameter limit of tuned is '9', not '6'"):
        one.verify(context, soon())


@pytest.mark.parametrize("action", ["load", "unload"])
def test_verify_believes_the_kernel(root, context, action):
    """Whatever modprobe and rmmod said."""
    if action == "unload":
        loaded(root, "agent")
    one = prepared(root, context, "agent", action)
    with pytest.raises(UpdateFailed, match="agent is (not )?loaded"):
        one.verify(context, soon())


def test_abandoned_before_it_began_changes_nothing(root, context):
    one = prepared(root, context, "tuned", "parameter", "limit=6")
    one.abandon()
    with pytest.raises(UpdateFailed, match="abandoned before tuned was changed"):
        one.apply(context, soon())
    assert (root / "tuned" / "parameters" / "limit").read_text() == "5\n"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("",), "update.module: .*needs a module"),
        (("-r",), "update.module: '-r' is no name"),
        (("../x",), "update.module: .* is no name"),
        (("gone",), "update.module: modprobe: .*Module gone not found"),
        (("tuned",), "update.module: tuned is loaded already"),
        (("builtin",), "update.module: builtin is built into this kernel"),
        (("agent", "load", "lvl=3"), "update.parameters: agent has no parameter lvl .*level"),
        (("agent", "load", "level"), "update.parameters: 'level' is not name=value"),
        (("agent", "unload"), "update.module: agent is not loaded"),
        (("builtin", "unload"), "update.module: builtin is built into this kernel"),
        (("used", "unload"), r"update.module: used is in use by user \(2\)"),
        (("tuned", "unload", "limit=1"), "update.parameters: unloading takes no parameters"),
        (("tuned", "parameter"), "update.parameters: no parameter is named"),
        (("agent", "parameter", "level=1"), "update.module: agent is not loaded"),
        (("tuned", "parameter", "x=1"), "update.parameters: tuned has no parameter x"),
        (("tuned", "parameter", "../refcnt=1"), "update.parameters: tuned has no parameter"),
        (("tuned", "parameter", "fixed=1"), "update.parameters: .*fixed.* cannot be changed"),
    ],
)
def test_bad_settings_are_refused(root, words, message):
    """Before anybody is paused, with the key."""
    fixed = root / "tuned" / "parameters" / "fixed"
    fixed.write_text("1\n")
    fixed.chmod(0o444)
    with pytest.raises(ConfigError, match=message):
        update(root, *words).check()


def test_what_is_declared_is_what_the_plan_sees(root):
    one = update(root, "a-b")
    assert (one.scope, one.preserves_memory, one.expected_s) == (Scope.HOST, True, 2.0)
