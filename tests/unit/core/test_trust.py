"""What root refuses to run, or to be told by: anything on the way that another user can change."""

from __future__ import annotations

import grp
import os
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from harness.cli.main import run_command_line
from harness.core.errors import ConfigError
from harness.core.process_state import python_module
from harness.core.trust import (
    changed_by_others,
    distrust,
    refuse_untrusted,
    refuse_untrusted_tree,
)

MALLORY = 54321
ALICE = 54322

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root is told what to run by others")


@pytest.fixture(autouse=True)
def _root_of_its_own(monkeypatch):
    """Nobody has become root by sudo."""
    monkeypatch.delenv("SUDO_UID", raising=False)
    monkeypatch.delenv("PKEXEC_UID", raising=False)


@pytest.fixture
def file(tmp_path):
    """``…/shop/etc/harness.toml``, all root's."""
    folder = tmp_path / "shop" / "etc"
    folder.mkdir(parents=True, mode=0o755)
    path = folder / "harness.toml"
    path.write_text("budget_s = 30.0\n")
    path.chmod(0o644)
    return path


def give(path: Path, uid: int, gid: int = -1) -> None:
    os.chown(path, uid, gid, follow_symlinks=False)


def test_what_is_roots_on_the_whole_way_is_trusted(file):
    """Also in /tmp, which is sticky, and also what does not exist yet."""
    assert distrust(file) is None
    assert distrust(file.with_name("none.toml")) is None


@pytest.mark.parametrize("part", ["shop", "shop/etc", "shop/etc/harness.toml"])
def test_each_part_that_another_user_owns_is_refused(file, tmp_path, part):
    """By path, owner and mode, with what mends it."""
    give(tmp_path / part, MALLORY)
    with pytest.raises(ConfigError) as caught:
        refuse_untrusted(file, key="update.command")
    said = str(caught.value)
    assert said.startswith("update.command: ")
    assert str(tmp_path / part) in said
    assert f"(uid {MALLORY}, mode 0" in said
    assert f"(hint: chown --no-dereference root {tmp_path / part})" in said


@pytest.mark.parametrize("part", ["shop", "shop/etc", "shop/etc/harness.toml"])
def test_each_part_that_anybody_may_write_is_refused(file, tmp_path, part):
    """But for a sticky folder, where a file of root's stays root's."""
    (tmp_path / part).chmod(0o757)
    with pytest.raises(ConfigError, match=r"can be changed by any user .*mode 0757.*chmod o-w"):
        refuse_untrusted(file)
    if (tmp_path / part).is_dir():
        (tmp_path / part).chmod(0o1777)
        refuse_untrusted(file)
        give(tmp_path / part, MALLORY)  # the owner of a sticky folder replaces what is in it
        assert distrust(file) is not None


def test_a_link_that_another_user_laid_is_refused(file, tmp_path):
    """And what it leads to is looked at, part by part; of links in a ring, opening tells."""
    link = tmp_path / "link"
    link.symlink_to("shop/../shop/etc")
    assert distrust(link / "harness.toml") is None
    give(file.parent, MALLORY)
    assert distrust(link / "harness.toml").part == file.parent
    give(file.parent, 0)
    give(link, MALLORY)
    assert distrust(link / "harness.toml").part == link
    ring = tmp_path / "ring"
    ring.symlink_to(ring)
    assert distrust(ring) is None


def test_a_group_with_other_members_may_not_write(file, monkeypatch):
    """One with nobody in it, as Debian's staff, may; root's own as well."""
    file.chmod(0o664)
    assert distrust(file) is None
    group = grp.struct_group(("crew", "x", 60001, []))
    monkeypatch.setattr(grp, "getgrgid", lambda gid: group)
    give(file, 0, 60001)
    assert distrust(file) is None
    group = grp.struct_group(("crew", "x", 60001, ["mallory"]))
    assert distrust(file).why.startswith("can be changed by group crew")


def test_a_group_that_nobody_knows_may_not_write(file):
    """Of its members nothing can be said."""
    file.chmod(0o664)
    give(file, 0, 61234)
    assert distrust(file).why.startswith("can be changed by group 61234")


def test_an_access_control_list_is_read(file):
    """The mode shows its mask as the group's bits; root's group says nothing about mallory."""
    entries = [
        (0x01, 6, 0xFFFFFFFF), (0x02, 6, MALLORY), (0x04, 4, 0xFFFFFFFF),
        (0x10, 6, 0xFFFFFFFF), (0x20, 4, 0xFFFFFFFF),
    ]  # fmt: skip
    acl = struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)
    try:
        os.setxattr(file, "system.posix_acl_access", acl)
    except OSError as error:
        pytest.skip(f"this file system has no access control lists: {error.strerror}")
    assert f"uid {MALLORY}, by its ACL" in distrust(file).why


@pytest.mark.parametrize("variable", ["SUDO_UID", "PKEXEC_UID"])
def test_the_files_of_who_became_root_are_their_own_choice(file, monkeypatch, variable):
    """Another user's never."""
    give(file, ALICE)
    give(file.parent, ALICE)
    assert distrust(file) is not None
    monkeypatch.setenv(variable, str(ALICE))
    assert distrust(file) is None
    give(file, MALLORY)
    assert distrust(file).part == file
    monkeypatch.setenv(variable, "-1; x")
    assert distrust(file) is not None


def test_users_but_root_judge_for_themselves(file, monkeypatch):
    """What they run has no rights but their own."""
    give(file, MALLORY)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert distrust(file) is None


def test_everything_in_a_folder(file, tmp_path):
    """Of a repository every package, and every folder."""
    shop = tmp_path / "shop"
    refuse_untrusted_tree(shop)
    give(file, MALLORY)
    with pytest.raises(ConfigError, match="harness.toml belongs to"):
        refuse_untrusted_tree(shop)


def harness(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """The command line, in ``folder``."""
    return subprocess.run(
        python_module("harness", *arguments),
        capture_output=True,
        text=True,
        timeout=60,
        cwd=folder,
        env={**os.environ, "HARNESS_STATE_DIR": str(folder / "state"), **environment},
    )


@pytest.fixture
def config(tmp_path):
    """A configuration file with a mistake, which only who reads it can tell of."""
    path = tmp_path / "harness.toml"
    path.write_text('uri = "test:///default"\nno_such_key = 1\n')
    path.chmod(0o644)
    return path


@pytest.mark.parametrize("command", ["run", "plan", "clock show web1", "doctor"])
def test_roots_harness_does_not_read_the_configuration_of_another_user(tmp_path, config, command):
    """Real processes: nothing happened, no traceback."""
    give(config, MALLORY)
    done = harness(tmp_path, *command.split())
    said = done.stdout + done.stderr
    assert "belongs to" in said
    assert f"uid {MALLORY}, mode 0644" in said
    assert "no_such_key" not in said
    assert "Traceback" not in said
    assert done.returncode != 0
    assert not (tmp_path / "state").exists()


def test_roots_harness_reads_its_own_configuration_and_the_callers(tmp_path, config):
    """The one who called sudo is trusted as root is."""
    give(config, MALLORY)
    assert "no_such_key" in harness(tmp_path, "plan", SUDO_UID=str(MALLORY)).stderr
    give(config, 0)
    assert "no_such_key" in harness(tmp_path, "plan").stderr


@pytest.mark.parametrize("how", ["program", "script", "interpreter", "argument", "own check"])
def test_roots_harness_does_not_run_the_program_of_another_user(tmp_path, how, monkeypatch, capsys):
    """Refused when it plans, before a guest is looked at."""
    program = tmp_path / "update"
    program.write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\n")
    program.chmod(0o755)
    wrapped = tmp_path / "wrapped"
    wrapped.write_text(f"#!{program}\n")
    wrapped.chmod(0o755)
    words = {
        "program": ["./update"],
        "script": ["sh", "-e", "update"],
        "interpreter": ["./wrapped"],
        "argument": ["nice", "./update"],
        "own check": ["true"],
    }[how]
    text = f'uri = "test:///default"\n[update]\nkind = "command"\ncommand = {words!r}\n'
    if how == "own check":
        text += '[[checks.own]]\nname = "mine"\ncommand = ["./update"]\n'
    (tmp_path / "harness.toml").write_text(text)
    if how == "script":
        program.chmod(0o644)
    give(program, MALLORY)
    done = harness(tmp_path, "run", "test")
    key = "checks.own[mine].command" if how == "own check" else "update.command"
    assert done.returncode == 2, done.stderr
    assert f"{key}: " in done.stderr
    assert "belongs to" in done.stderr
    assert not (tmp_path / "ran").exists()
    give(program, 0)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HARNESS_STATE_DIR", str(tmp_path / "state"))
    assert run_command_line(["plan", "test"]) == 0
    assert "belongs to" not in capsys.readouterr().err


def test_root_looks_for_nothing_where_another_user_may_write(tmp_path):
    """Not programs, nor libraries, nor modules of Python and Perl; and says so."""
    theirs = tmp_path / "bin"
    theirs.mkdir(mode=0o755)
    give(theirs, MALLORY)
    (theirs / "click.py").write_text("raise SystemExit('run')")
    names = ("PATH", "LD_LIBRARY_PATH", "PYTHONPATH", "PERL5LIB")
    code = (
        "import os, sys; from harness.core.process_state import settle_process;"
        f"print(settle_process()); print([os.environ.get(n) for n in {names}]);"
        "print(os.environ.get('LD_PRELOAD'), os.environ.get('PERL_USE_UNSAFE_INC'));"
        f"print({str(theirs)!r} in sys.path, os.getcwd() in sys.path)"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", code],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=tmp_path,
        env={
            **os.environ,
            **{name: f"{theirs}:/usr/bin:.:" for name in names},
            "LD_PRELOAD": "./mine.so libc.so.6",
            "PERL_USE_UNSAFE_INC": "1",
        },
    )
    warned, kept, others, imports = done.stdout.splitlines()
    assert kept == str(["/usr/bin"] * len(names))
    assert (others, imports) == ("libc.so.6 None", "False False")
    assert all(f"{name}: {theirs} is left out: {theirs} belongs to" in warned for name in names)


def test_a_user_asks_the_same_of_what_is_its_own(file, monkeypatch):
    """Of folders that are followed without being asked for; nothing that sudo says counts."""
    monkeypatch.setattr(os, "geteuid", lambda: ALICE)
    monkeypatch.setenv("SUDO_UID", str(MALLORY))
    give(file, ALICE)
    assert changed_by_others(file) is None
    file.chmod(0o666)
    assert changed_by_others(file).part == file
    assert distrust(file) is None
    file.chmod(0o644)
    give(file, MALLORY)
    assert changed_by_others(file).part == file
