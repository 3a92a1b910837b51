"""A login that ends in Windows: a real sshd, and behind it a stand-in for cmd and PowerShell."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from harness.clock.sampling import Sampler
from harness.core.errors import ProbeError
from harness.core.timebase import Deadline
from harness.guest.facts import GuestOs, gather
from harness.guest.kernel_log import look_again, mark
from harness.guest.protocol import Language
from harness.guest.shell import SshShell
from harness.testing.sshd import private_sshd

pytestmark = pytest.mark.timeout(60)
ROOT = Path(__file__).parents[2]


def soon() -> Deadline:
    return Deadline.after(30)


def forced(*words: str) -> str:
    """A line for sshd that makes the stand-in the login shell of every account."""
    program = f"{sys.executable} -P -m harness.testing.windows {' '.join(words)}"
    return f"ForceCommand PYTHONPATH={ROOT} exec {program}"


@pytest.fixture(scope="module", params=["cmd", "powershell"])
def server(request, tmp_path_factory):
    """A Windows whose DefaultShell is that."""
    folder = tmp_path_factory.mktemp(request.param)
    with private_sshd(folder / "sshd", None, forced(request.param)) as sshd:
        yield sshd


@pytest.fixture
def shell(server):
    """Logged in; nothing is known of the guest yet."""
    opened = SshShell.open("win1", "127.0.0.1", server.settings(), soon())
    yield opened
    opened.close()


def test_everything_that_a_run_asks_is_answered(shell):
    """Recognised by what its login shell fills in, then served in PowerShell."""
    assert shell.speaks is Language.SH
    facts = gather(shell, soon())
    assert (shell.speaks, facts.os) == (Language.POWERSHELL, GuestOs.WINDOWS)
    assert gather(shell, soon()) == facts
    log = mark(shell, facts, soon())
    assert look_again(shell, log, soon())[0] == facts.boot_id
    sampler = Sampler.open(shell, facts, soon(), interpreters=("sh",))
    reading = sampler.read(4, soon())
    assert abs(reading.offset_s) <= reading.uncertainty_s + 1e-6
    sampler.step(5_000_000_000, soon())
    assert sampler.read(4, soon()).offset_s == pytest.approx(5, abs=0.1)
    sampler.close()


def test_a_command_for_sh_is_refused_and_not_tried_in_another_language(shell):
    """What was meant for sh is not given to PowerShell."""
    with pytest.raises(ProbeError, match="runs no command"):
        shell.run("rm -rf /tmp/x", soon())
    with pytest.raises(ProbeError):
        shell.stream("Get-Date", soon()).listen(soon())


def test_a_restricted_powershell_is_named(tmp_path):
    """Constrained language mode: no method may be called, so nothing of ours works."""
    with private_sshd(tmp_path / "sshd", None, forced("cmd", "restricted")) as server:
        shell = SshShell.open("win1", "127.0.0.1", server.settings(), soon())
        with pytest.raises(ProbeError, match="language mode"):
            gather(shell, soon())
        shell.close()
