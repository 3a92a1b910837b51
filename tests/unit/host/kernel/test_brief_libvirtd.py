"""A libvirtd for a moment: a process that says it is one, its socket, and what it is given."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from harness.core.errors import DeadlineExpired, InfrastructureError
from harness.core.timebase import Deadline
from harness.host.kernel import brief_libvirtd as module
from harness.host.kernel import early, qemus_known
from harness.host.kernel.brief_libvirtd import brief_libvirtd

ANSWERS = """#!/bin/sh
trap 'echo ended >> "$HERE/log"; exit 0' TERM
echo $$ > "$HERE/pid"
touch "$HERE/socket"
while :; do sleep 0.02; done
"""


@pytest.fixture
def host(tmp_path, monkeypatch):
    """``host(TEXT)``: what ``libvirtd`` is; the folder it lives in is returned."""
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    monkeypatch.setenv("HERE", str(tmp_path))
    monkeypatch.setattr(module, "SOCKET", tmp_path / "socket")
    monkeypatch.setattr(module, "CONFIGURATION", tmp_path / "etc.conf")
    monkeypatch.setattr(qemus_known, "CACHE", tmp_path / "cache")
    covered: list[tuple[Path, Path]] = []
    monkeypatch.setattr(early, "cover", lambda this, by: covered.append((this, by)))
    monkeypatch.setattr(early, "uncover", lambda this: covered.pop())

    def build(text: str) -> tuple[Path, list[tuple[Path, Path]]]:
        program = tmp_path / "bin" / "libvirtd"
        program.parent.mkdir()
        program.write_text(text)
        program.chmod(0o755)
        return tmp_path, covered

    return build


def test_it_answers_in_the_block_and_has_ended_after_it(host):
    """By SIGTERM, so that its QEMUs go on."""
    here, _ = host(ANSWERS)
    with brief_libvirtd(here, {}, (), Deadline.after(30)) as answers:
        answers()
        pid = int((here / "pid").read_text())
        assert (here / "socket").exists()
    assert (here / "log").read_text() == "ended\n"
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_it_has_ended_too_where_the_block_fails(host):
    here, _ = host(ANSWERS)
    with (
        pytest.raises(ZeroDivisionError),
        brief_libvirtd(here, {}, (), Deadline.after(30)) as answers,
    ):
        answers()
        raise ZeroDivisionError
    assert (here / "log").read_text() == "ended\n"


def test_one_that_ends_at_once_is_told(host):
    here, _ = host("#!/bin/sh\necho no such option >&2; exit 3\n")
    with (
        pytest.raises(InfrastructureError, match="libvirtd ended with 3"),
        brief_libvirtd(here, {}, (), Deadline.after(30)) as answers,
    ):
        answers()
        pytest.fail("it did not answer")
    assert "no such option" in (here / "libvirtd.log").read_text()


def test_one_that_never_answers_is_waited_for_no_longer_than_that(host):
    here, _ = host(ANSWERS.replace('touch "$HERE/socket"\n', ""))
    with (
        pytest.raises(DeadlineExpired, match="libvirtd"),
        brief_libvirtd(here, {}, (), Deadline.after(0.3)) as answers,
    ):
        answers()
        pytest.fail("it did not answer")


def test_without_the_program_it_is_an_error_of_the_host(host, monkeypatch):
    here, _ = host(ANSWERS)
    monkeypatch.setenv("PATH", str(here / "nothing"))
    with (
        pytest.raises(InfrastructureError, match="libvirtd"),
        brief_libvirtd(here, {}, (), Deadline.after(5)) as answers,
    ):
        answers()
        pytest.fail("it did not answer")


def test_it_asks_no_qemu_and_writes_logs_by_itself_for_as_long_as_it_is_there(host, monkeypatch):
    """The host's own files are covered, not changed, and nobody else may read what covers them."""
    here, covered = host(ANSWERS)
    (here / "cache").mkdir()
    (here / "etc.conf").write_text('user = "me"\n  stdio_handler = "logd"\n')
    monkeypatch.setattr(qemus_known, "cpuid_of_kvm", lambda: "<cpuid/>")
    monkeypatch.setattr(qemus_known, "with_cpuid", lambda entry, cpuid: entry + cpuid)
    with brief_libvirtd(here, {"a.xml": "<a/>"}, (), Deadline.after(30)):
        own = {this: by for this, by in covered}
        assert set(own) == {here / "cache", here / "etc.conf"}
        assert (own[here / "cache"] / "a.xml").read_text() == "<a/><cpuid/>"
        lines = own[here / "etc.conf"].read_text().splitlines()
        assert lines == ['user = "me"', 'stdio_handler = "file"']
        assert stat.S_IMODE(own[here / "etc.conf"].stat().st_mode) == 0o600
    assert covered == []
