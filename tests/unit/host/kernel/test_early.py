"""What is done for QEMU and libvirt where neither udev nor systemd has run: programs, folders."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

import pytest

from harness.core.errors import InfrastructureError
from harness.host.kernel import early


@pytest.fixture
def told(tmp_path, monkeypatch):
    """Programs of this name write down how they were called, and end with a status."""

    def build(name: str, status: int = 0) -> Path:
        log = tmp_path / f"{name}.log"
        program = tmp_path / "bin" / name
        program.parent.mkdir(exist_ok=True)
        program.write_text(f'#!/bin/sh\necho "$@" >> {log}\necho refused >&2\nexit {status}\n')
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
        return log

    return build


def test_a_bridge_is_made_and_up(told):
    log = told("ip")
    early.make_bridge("no-such-bridge")
    assert log.read_text().splitlines() == [
        "link add no-such-bridge type bridge",
        "link set no-such-bridge up",
    ]


def test_one_that_is_there_is_left_alone(told):
    log = told("ip")
    early.make_bridge("lo")
    assert not log.exists()


def test_a_bridge_that_cannot_be_made_is_told(told):
    told("ip", 2)
    with pytest.raises(InfrastructureError, match="ip link add no-such-bridge .*refused"):
        early.make_bridge("no-such-bridge")


def test_a_qemu_is_put_into_a_group_of_machines(tmp_path, monkeypatch):
    """systemd ends what is in init's own group."""
    monkeypatch.setattr(early, "_GROUPS", tmp_path)
    early.give_a_group("uuid-1", 4711)
    assert (tmp_path / "machine.slice/harness-uuid-1.scope/cgroup.procs").read_text() == "4711"


def test_what_is_mounted_already_is_left_alone(tmp_path, monkeypatch):
    """The initrd has done a part of it; folders that are missing are made."""
    there, missing = tmp_path / "there", tmp_path / "missing"
    there.mkdir()
    done: list[tuple[str, Path, str, str]] = []
    wanted = (("proc", str(there), "proc", ""), ("tmpfs", str(missing), "tmpfs", "mode=0755"))
    monkeypatch.setattr(early, "_MOUNTS", wanted)
    monkeypatch.setattr(early, "mount", lambda *how: done.append(how))
    monkeypatch.setattr(Path, "is_mount", lambda path: path == there)
    early.mount_the_usual()
    assert done == [("tmpfs", missing, "tmpfs", "mode=0755")]
    assert missing.is_dir()


def test_what_cannot_be_mounted_says_where(tmp_path):
    """Of a kind that no kernel has; without root it is refused before that."""
    with pytest.raises(InfrastructureError, match=f"mounting {tmp_path}: "):
        early.mount("nothing", tmp_path, "no-such-file-system", "noatime,mode=0755")
    early.uncover(tmp_path)  # which nothing covers


def test_a_mount_is_changed_by_its_flags_alone(monkeypatch):
    """What a file system has of its own stays; each flag is a bit of the call."""
    calls = []

    class Libc:
        def mount(self, *words: object) -> int:
            calls.append([getattr(one, "value", one) for one in words])
            return 0

    monkeypatch.setattr(ctypes, "CDLL", lambda *_, **__: Libc())
    early.change(Path("/ram"), "remount,rw,nosuid,noatime,dax=always")
    assert calls == [[b"none", b"/ram", b"", 32 | 2 | 1024, b""]]
