"""Modules that are unpacked beforehand: which, where, and what is loaded of them."""

from __future__ import annotations

import gzip
import lzma
import os
from pathlib import Path

import pytest

from harness.host.kernel import modules

RELEASE = "6.12"


@pytest.fixture
def host(tmp_path, monkeypatch):
    """``modprobe`` tells what ``depends`` says; what either was given is in ``log``."""
    for name, does in (
        ("modprobe", f'case "$*" in *show-depends*) cat {tmp_path}/depends;; esac'),
        ("depmod", ":"),
    ):
        program = tmp_path / "bin" / name
        program.parent.mkdir(exist_ok=True)
        program.write_text(f'#!/bin/sh\necho {name} "$@" >>{tmp_path}/log\n{does}\nexit 1\n')
        program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    monkeypatch.setattr(modules, "_LOADED", tmp_path / "loaded")
    return tmp_path


def test_what_is_needed_is_unpacked_however_it_is_packed(host):
    """One that is not there costs nothing but itself."""
    for name, pack in (("a.ko.xz", lzma.compress), ("b.ko.gz", gzip.compress), ("c.ko", bytes)):
        (host / name).write_bytes(pack(name.encode()))
    lines = [f"insmod {host}/{name} some=parameter" for name in ("a.ko.xz", "b.ko.gz", "c.ko")]
    (host / "depends").write_text("\n".join([*lines, "builtin d", f"insmod {host}/e.ko.zst"]))
    folder = host / "unpacked"
    modules.unpack(RELEASE, ["a", "b"], folder)
    found = {one.name: one.read_bytes() for one in folder.rglob("*.ko")}
    assert found == {"a.ko": b"a.ko.xz", "b.ko": b"b.ko.gz", "c.ko": b"c.ko"}
    assert (host / "log").read_text().splitlines() == [
        f"modprobe -S {RELEASE} --all --show-depends a b",
        f"depmod --basedir {folder} {RELEASE}",
    ]
    modules.forget(folder)
    assert not folder.exists()


def test_what_cannot_be_unpacked_is_loaded_from_where_it_was_installed(host):
    """Half a file is none, and nothing of it is laid beside."""
    (host / "a.ko.xz").write_bytes(lzma.compress(b"a" * 1000)[:40])
    (host / "depends").write_text(f"insmod {host}/a.ko.xz\n")
    modules.unpack(RELEASE, ["a"], host / "unpacked")
    assert not [*(host / "unpacked").rglob("*.ko")]


@pytest.mark.parametrize("there", [True, False])
def test_what_is_laid_beside_is_loaded_first_and_then_what_is_left(host, there):
    """A module that is loaded is not asked for again; one that is missing ends nothing."""
    folder = host / "unpacked"
    if there:
        folder.mkdir()
    (host / "loaded" / "builtin").mkdir(parents=True)
    for name, state in (("kvm", "live"), ("tun", "coming")):
        (host / "loaded" / name).mkdir(parents=True)
        (host / "loaded" / name / "initstate").write_text(f"{state}\n")
    modules.load(["builtin", "kvm", "tun", "nd_pmem"], folder)
    said = (host / "log").read_text().splitlines()
    first = [f"modprobe --dirname {folder} --all tun nd_pmem"] if there else []
    assert said == [*first, "modprobe --all tun nd_pmem"]


def test_nothing_is_started_where_all_are_loaded(host):
    """By whoever was faster."""
    (host / "unpacked").mkdir()
    (host / "loaded" / "kvm").mkdir(parents=True)
    modules.load(["kvm"], host / "unpacked")
    assert not (host / "log").exists()


def test_without_the_programs_it_is_an_error_of_no_run(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    modules.unpack(RELEASE, ["a"], Path(tmp_path, "unpacked"))
