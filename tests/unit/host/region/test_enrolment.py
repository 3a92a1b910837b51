"""A host is set up so that its guests' RAM outlives its kernel: asked for, done, and undone."""

from __future__ import annotations

import re
import shlex
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from harness.cli.main import cli
from harness.core.errors import ConfigError, UsageError
from harness.host import resident_setup, setup_steps
from harness.host.region import enrolment
from harness.host.region.enrolment import Enrolment, exec_start
from harness.host.region.place import GIB, Region
from harness.host.resident_setup import Host
from tests.unit.host.region.test_place import Q35

SET_ASIDE = Q35.replace(
    "100000000-17fffffff : System RAM",
    "100000000-13fffffff : System RAM\n140000000-17fffffff : Persistent Memory (legacy)",
)
ARGUMENT = "memmap=1024M!0x140000000"


class Bench:
    """A host in a folder, with GRUB and without AppArmor."""

    def __init__(self, folder: Path) -> None:
        self.ran: list[tuple[str, ...]] = []
        self.mounted: str | None = "ext4"
        self.here = Enrolment(
            Host(folder / "ram", folder / "units", folder / "apparmor.d", folder / "loaded"),
            folder / "grub.d/harness.cfg",
            folder / "cmdline",
            folder / "iomem",
            folder / "run/region",
            folder / "handover",
            (folder / "rehearsal", folder / "begun"),
            "/usr/sbin/update-grub",
        )
        self.boot("quiet", Q35)

    def boot(self, line: str, iomem: str) -> None:
        self.here.command_line.write_text(f"{line}\n")
        self.here.iomem.write_text(iomem)


@pytest.fixture
def bench(tmp_path, monkeypatch) -> Bench:
    found = Bench(tmp_path)
    for module in (resident_setup, enrolment):
        monkeypatch.setattr(module, "file_system", lambda path: found.mounted)
    monkeypatch.setattr(setup_steps, "run", lambda words: found.ran.append(tuple(words)))
    monkeypatch.setattr(enrolment, "refuse_untrusted", lambda path: None)
    monkeypatch.setattr(enrolment, "refuse_untrusted_tree", lambda path: None)
    monkeypatch.setattr(Enrolment, "this", lambda: found.here)
    return found


def files(folder: Path) -> dict[str, str]:
    found = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): path.read_text() for path in found}


def test_a_host_is_set_up_once_and_undone(bench, tmp_path):
    """Before the reboot nothing is started; set up again, nothing is changed; undone, as before."""
    before = files(tmp_path)
    done = bench.here.set_up("1G")
    done.make()
    name = bench.here.host.unit.name
    assert bench.ran == [
        ("/usr/sbin/update-grub",),
        ("systemctl", "daemon-reload"),
        ("systemctl", "enable", name),
    ]
    assert "next reboot" in done.remarks[0]
    assert f'GRUB_CMDLINE_LINUX="$GRUB_CMDLINE_LINUX {ARGUMENT}"' in bench.here.loader.read_text()
    for unit in (bench.here.unit, bench.here.host.unit):
        assert f"ConditionKernelCommandLine={ARGUMENT}\n" in unit.read_text()
    assert "Options=dax," in bench.here.host.unit.read_text()
    assert "@" not in bench.here.unit.read_text() + bench.here.host.unit.read_text()
    assert bench.here.set_up("1G").nothing
    bench.boot(f"quiet {ARGUMENT}", SET_ASIDE)
    bench.mounted = "dax"
    assert bench.here.set_up("1G").nothing
    for record in bench.here.rehearsals:
        record.touch()
    bench.ran.clear()
    bench.here.undo().make()
    assert bench.ran == [
        ("systemctl", "disable", "--now", name),
        ("systemctl", "stop", "harness-region.service"),
        ("/usr/sbin/update-grub",),
        ("systemctl", "daemon-reload"),
    ]
    bench.boot("quiet", Q35)
    assert files(tmp_path) == before
    assert bench.here.undo().nothing


def test_what_was_set_up_can_be_read_back(bench):
    """From the unit, which is what makes the file system at boot."""
    assert bench.here.enrolled() is None
    bench.here.set_up("1G").make()
    found = bench.here.enrolled()
    assert found == enrolment.Enrolled(Region(5 * GIB, GIB), ARGUMENT, bench.here.host.folder)
    odd = replace(bench.here, host=replace(bench.here.host, folder=Path('/a b/50%/$x"y')))
    odd.set_up("1G").make()
    assert odd.enrolled().folder == odd.host.folder


def test_another_size_is_another_line_from_the_next_boot_on(bench):
    """In the place of the one before."""
    bench.here.set_up("1G").make()
    bench.boot(f"quiet {ARGUMENT}", SET_ASIDE)
    done = bench.here.set_up("2G")
    done.make()
    assert "memmap=2048M!0x100000000" in bench.here.loader.read_text()
    assert ARGUMENT not in bench.here.loader.read_text() + bench.here.unit.read_text()
    assert not any("--now" in words for words in done.after)


def test_without_a_boot_loader_that_we_know_a_person_gives_the_line(bench):
    """It is told which; once the kernel has it, in whatever spelling, the rest is set up."""
    here = replace(bench.here, update_grub=None)
    with pytest.raises(UsageError, match="no update-grub") as told:
        here.set_up("1G")
    assert ARGUMENT in told.value.hint
    bench.boot("quiet memmap=1G!5G", SET_ASIDE)
    done = here.set_up("1G")
    assert [one.path for one in done.files] == [here.unit, here.host.unit]
    assert "ConditionKernelCommandLine=memmap=1G!5G\n" in done.files[1].shown
    assert ("systemctl", "enable", "--now", here.host.unit.name) in done.after


def test_files_of_guests_are_not_hidden_and_not_taken_away(bench):
    """By a mount in a host that has the region already, or by its end."""
    bench.here.set_up("1G").make()
    bench.here.host.unit.unlink()
    bench.boot(f"quiet {ARGUMENT}", SET_ASIDE)
    (bench.here.host.folder / "3-web1").mkdir(parents=True)
    with pytest.raises(UsageError, match="holds files, of guests that run: 3-web1"):
        bench.here.set_up("1G")
    bench.mounted = "dax"
    bench.here.set_up("1G").make()
    with pytest.raises(UsageError, match="holds the RAM of guests: 3-web1"):
        bench.here.undo()
    (bench.here.host.folder / "3-web1").rename(bench.here.host.folder / "lost+found")
    assert bench.here.undo().files


def test_while_a_handover_is_pending_nothing_is_changed(bench):
    """Guests wait in the region."""
    bench.here.set_up("1G").make()
    bench.here.handover.touch()
    for attempt in (bench.here.undo, lambda: bench.here.set_up("1G")):
        with pytest.raises(UsageError, match="handover is pending"):
            attempt()


def test_a_region_is_not_replaced_by_a_tmpfs_by_the_way(bench):
    """`--resident` alone means another thing."""
    bench.here.set_up("1G").make()
    with pytest.raises(UsageError, match="set aside at boot"):
        bench.here.host.set_up("1G")


def test_what_another_user_can_change_is_not_run_at_boot(bench, monkeypatch):
    """As root; nothing is written then."""

    def refuse(path: Path) -> None:
        raise ConfigError(f"{path} can be changed by any user")

    monkeypatch.setattr(enrolment, "refuse_untrusted_tree", refuse)
    with pytest.raises(ConfigError, match="harness can be changed by any user"):
        bench.here.set_up("1G")


def test_a_command_is_what_systemd_reads(tmp_path):
    """Spaces, quotes and specifiers."""
    words = ["/usr/bin/python3", "-P", "/a b", '"\\', "50%", "$HOME"]
    line = exec_start(words)
    assert "%%" in line
    assert shlex.split(line.replace("%%", "%").replace("$$", "$")) == words


def test_the_command_line_shows_and_does_it(bench, monkeypatch, tmp_path):
    """Every file and command beforehand, what a person has to do in the end, and the way back."""
    monkeypatch.setattr("os.geteuid", lambda: 0)

    def harness(*words: str):
        return CliRunner().invoke(cli, ["setup-host", *words], standalone_mode=False)

    shown = harness("--resident", "1G", "--region", "--dry-run").stdout
    assert not bench.here.unit.exists()
    assert harness("--resident", "1G", "--region").stdout == re.sub("(?m)^would ", "", shown)
    assert "in force after the next reboot: 1024 MiB at 0x140000000" in shown
    assert "set aside until the next reboot" in harness("--undo").stdout
    assert not bench.here.unit.exists()
    assert "takes the region away, too" in str(harness("--undo", "--region").exception)
