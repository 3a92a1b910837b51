"""Package transactions, with programs in the PATH that play apt and dpkg; real ones: tests/kvm."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest

from harness.core.errors import (
    ConfigError,
    MissingCapability,
    NotNeeded,
    PlanError,
    UpdateFailed,
    UpdateOverran,
)
from harness.core.settings import Scope
from harness.core.timebase import Deadline
from harness.updates import dpkg, reboot
from harness.updates.packages import PackagesSettings, PackagesUpdate
from harness.updates.protocol import Site, UpdateContext
from harness.updates.transaction import Change, parse, refusal, remarks

#: They live in $FAKE: what apt would do is in `simulation`, what dpkg has in `installed`, and
#: what is installed after an installation in `after`; every call is written to `calls`.
PROGRAMS = {
    "apt-get": """
case "$*" in
*--simulate*) [ ! -e refusal ] || { echo "E: $(cat refusal)" >&2; exit 100; }; cat simulation;;
*--download-only*|*update) ;;
*) cp after installed; exit "$(cat status)";;
esac""",
    "dpkg": 'case "$*" in --audit) cat audit;; *--install*) cp before installed;; esac',
    "dpkg-query": "cat installed",
    "dpkg-deb": """
for deb; do :; done
case "$*" in *--contents*) cat "$deb.contents" 2>/dev/null || :;; *) cat "$deb";; esac""",
}
UPGRADE = "Inst agent [1] (2 local [all])\nConf agent (2 local [all])\n"


@pytest.fixture
def fake(tmp_path, monkeypatch):
    """A host with agent 1, where apt would upgrade it to 2."""
    home = tmp_path / "fake"
    home.mkdir()
    for name, body in PROGRAMS.items():
        file = home / name
        file.write_text(f'#!/bin/sh\ncd {home}\necho "{name} $*" >>calls\n{body}\n')
        file.chmod(0o755)
    for name, text in {
        "simulation": UPGRADE,
        "installed": "agent installed 1\n",
        "before": "agent installed 1\n",
        "after": "agent installed 2\n",
        "status": "0",
        "audit": "",
        "calls": "",
    }.items():
        (home / name).write_text(text)
    monkeypatch.setenv("PATH", f"{home}:{os.environ['PATH']}")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setenv("SUDO_UID", str(os.getuid()))  # whose files these are
    monkeypatch.setattr(dpkg, "LOCKS", (home / "lock",))
    monkeypatch.setattr(dpkg, "ARCHIVES", home / "archives")
    monkeypatch.setattr(reboot, "MARK", home / "reboot-required")
    monkeypatch.setattr(reboot, "BOOT", home / "boot")
    (home / "lock").touch()
    return home


@pytest.fixture
def context(tmp_path):
    (tmp_path / "run").mkdir()
    return UpdateContext(f"run-{tmp_path.name}", tmp_path / "run", "0", (), tmp_path, 30.0)


def update(
    *packages: str, uri: str = Site.uri, state_dir: Path | None = None, **settings
) -> PackagesUpdate:
    chosen = PackagesSettings(packages=packages or ("agent",), **settings)
    return PackagesUpdate(chosen, Site(uri, state_dir))


def soon() -> Deadline:
    return Deadline.after(20)


def old_deb(fake) -> None:
    (fake / "archives").mkdir()
    (fake / "archives" / "agent_1_all.deb").write_text("agent 1 all\n")


def calls(fake) -> list[str]:
    return (fake / "calls").read_text().splitlines()


def prepared(context, **settings) -> PackagesUpdate:
    one = update(**settings)
    one.check()
    one.prepare(context, soon())
    return one


def test_the_transaction_is_done_as_it_was_simulated(fake, context):
    """Planned, downloaded before the pause, done without a network, verified."""
    one = prepared(context)
    assert one.warnings[0] == "the update changes: agent 1 → 2"
    assert "download-only" in " ".join(calls(fake))
    applied = one.apply(context, soon())
    assert (applied.returncode, applied.detail) == (0, "agent 1 → 2")
    assert "Methods::http=false" in calls(fake)[-1]
    one.verify(context, soon())


def test_verify_finds_another_version(fake, context):
    """A transaction that says it went well is not believed."""
    one = prepared(context)
    one.apply(context, soon())
    (fake / "installed").write_text("agent half-configured 2\n")
    with pytest.raises(UpdateFailed, match="agent is not installed, not 2"):
        one.verify(context, soon())
    (fake / "audit").write_text("agent is in a mess\n")
    with pytest.raises(UpdateFailed, match="dpkg --audit: agent is in a mess"):
        one.verify(context, soon())


def test_a_rollback_puts_the_old_version_back(fake, context):
    """From the .deb that apt kept; and says beforehand that it can."""
    old_deb(fake)
    (fake / "status").write_text("100")
    one = prepared(context)
    assert len(one.warnings) == 1
    with pytest.raises(UpdateFailed, match="apt-get ended with status 100"):
        one.apply(context, soon())
    one.rollback(context, soon())
    assert any(c.endswith(f"--install {fake}/archives/agent_1_all.deb") for c in calls(fake))
    assert (fake / "installed").read_text() == "agent installed 1\n"


def test_a_rollback_that_changes_nothing_back_is_an_error(fake, context):
    """dpkg may say yes and do nothing."""
    old_deb(fake)
    one = prepared(context)
    one.apply(context, soon())
    (fake / "before").write_text("agent installed 2\n")
    with pytest.raises(UpdateFailed, match="agent is 2, not 1"):
        one.rollback(context, soon())


def test_what_cannot_be_rolled_back_is_said_at_plan_time(fake, context):
    """A file of the right name that holds another version is no way back."""
    old_deb(fake)
    (fake / "archives" / "agent_1_all.deb").write_text("agent 1.1 all\n")
    one = prepared(context)
    assert one.warnings[1].startswith("it cannot be rolled back: no .deb of agent 1 is here")
    one.apply(context, soon())
    with pytest.raises(UpdateFailed, match="cannot be rolled back, as was warned"):
        one.rollback(context, soon())


def test_what_was_new_is_purged_and_old_configuration_is_not(fake, context):
    """New to dpkg: nothing of it stays. Left over from earlier: only the package goes."""
    (fake / "simulation").write_text("Inst a (2 local [all])\nInst b (2 local [all])\n")
    (fake / "installed").write_text("b config-files 1\n")
    (fake / "after").write_text("a installed 2\nb installed 2\n")
    one = prepared(context)
    one.apply(context, soon())
    with pytest.raises(UpdateFailed, match="a is 2, not gone"):  # this dpkg removes nothing
        one.rollback(context, soon())
    assert {"dpkg --purge a", "dpkg --remove b"} <= set(calls(fake))


def test_simulated_changes_nothing(fake, context):
    """The whole maintenance, without the change."""
    one = prepared(context, simulate=True)
    assert one.apply(context, soon()).detail == "simulated only: agent 1 → 2"
    one.verify(context, soon())
    assert (fake / "installed").read_text() == "agent installed 1\n"
    (fake / "installed").write_text("agent installed 2\n")
    with pytest.raises(UpdateFailed, match="agent is 2, not 1"):
        one.verify(context, soon())


def test_a_plan_that_is_out_of_date_is_not_carried_out(fake, context):
    """What apt would do now is not what was planned: nobody is paused for it."""
    one = update()
    one.check()
    (fake / "simulation").write_text("Inst agent [1] (3 local [all])\n")
    with pytest.raises(UpdateFailed, match="would now change agent 1 → 3, not what was planned"):
        one.prepare(context, soon())


@pytest.mark.parametrize(
    ("simulation", "words"),
    [
        ("Inst linux-image-6.1.0-9-amd64 (6.1 Debian [amd64])", "kernel takes a reboot"),
        ("Inst linux-image-amd64 [6.0] (6.1 Debian [amd64])", "kernel takes a reboot"),
        ("Remv linux-image-6.1.0-8-amd64 [6.0]", "kernel takes a reboot"),
        ("Inst intel-microcode [1] (2 Debian [amd64])", "microcode takes a reboot"),
        ("Inst firmware-misc-nonfree [1] (2 Debian [all])", "firmware takes a reboot"),
        ("Remv libvirt-daemon-system [9.0]", "no guest could be resumed"),
    ],
)
def test_what_does_not_preserve_memory_is_refused(fake, simulation, words):
    """Recognised in what apt would do, also as a dependency of what was asked for."""
    (fake / "simulation").write_text(UPGRADE + simulation + "\n")
    with pytest.raises(PlanError, match=words):
        update().check()


@pytest.mark.parametrize("name", ["linux-headers-amd64", "linux-libc-dev", "agent-firmwares"])
def test_what_needs_no_reboot_is_not_refused(name):
    """Names that only look like it."""
    assert refusal([Change(name, "1", "2")], {}) is None


def new_deb(folder, *paths: str):
    """agent 2 with these files, as dpkg-deb lists them."""
    folder.mkdir(exist_ok=True)
    deb = folder / "agent_2_all.deb"
    deb.write_text("agent 2 all\n")
    lines = [f"-rw-r--r-- root/root 9 2026-01-01 00:00 {path}\n" for path in paths]
    deb.with_name(f"{deb.name}.contents").write_text("".join(lines))
    return deb


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("./boot/vmlinuz-6.1-own", "kernel \\(/boot/vmlinuz-6.1-own\\) takes a reboot"),
        ("./lib/modules/6.1-own/kernel/fs/x.ko -> y.ko", "kernel .* takes a reboot"),
        ("./usr/lib/firmware/amd-ucode/a.bin", "microcode .* takes a reboot"),
    ],
)
def test_a_kernel_by_another_name_is_refused_for_what_it_brings(fake, tmp_path, path, words):
    """Seen at plan time in a file that is named."""
    deb = new_deb(tmp_path / "debs", "./", "./usr/bin/agent", path)
    with pytest.raises(PlanError, match=words):
        update(str(deb)).check()


def test_what_is_downloaded_is_looked_into_before_anybody_is_paused(fake, context):
    """At plan time it was not here yet."""
    one = update()
    one.check()
    new_deb(fake / "archives", "./boot/xen-4.17.gz")
    with pytest.raises(PlanError, match="kernel .* takes a reboot"):
        one.prepare(context, soon())


def test_files_that_need_no_reboot_are_not_refused(fake, context, tmp_path):
    """Out-of-tree modules, data beside firmware, somebody's folder called boot."""
    names = (
        "./lib/modules/6.1/updates/x.ko",
        "./lib/firmware/regulatory.db",
        "./opt/boot/vmlinuz-1",
    )
    update(str(new_deb(tmp_path / "debs", *names, "./boot/grub/x"))).check()


def test_an_update_that_asks_for_a_reboot_afterwards_is_not_in_force(fake, context):
    """Though every version is right. What was asked for before is said beforehand, and no fault."""
    (fake / "reboot-required").touch()
    (fake / "reboot-required.pkgs").write_text("dbus\n")
    one = prepared(context)
    assert "waits for a reboot already, asked for by dbus" in one.warnings[-2]
    one.apply(context, soon())
    one.verify(context, soon())
    (fake / "reboot-required.pkgs").write_text("dbus\nagent\n")
    with pytest.raises(UpdateFailed, match="^agent asks for a reboot of the host"):
        one.verify(context, soon())


def test_a_mark_without_names_asks_for_a_reboot_too(fake, context):
    """Some tools write only the mark."""
    one = prepared(context)
    one.apply(context, soon())
    (fake / "reboot-required").touch()
    with pytest.raises(UpdateFailed, match="^a package asks for a reboot of the host"):
        one.verify(context, soon())


def test_a_host_that_does_not_run_its_newest_kernel_waits_for_a_reboot(fake, monkeypatch):
    """Of its own flavour; numbers are compared as numbers."""
    monkeypatch.setattr(reboot, "running_release", lambda: "6.1.0-9-cloud-amd64")
    (fake / "boot").mkdir()
    for release in ("6.1.0-8-cloud-amd64", "6.1.0-9-cloud-amd64", "6.1.0-12-amd64"):
        (fake / "boot" / f"vmlinuz-{release}").touch()
    assert not list(reboot.awaited())
    (fake / "boot" / "vmlinuz-6.1.0-10-cloud-amd64").touch()
    (said,) = reboot.awaited()
    assert said.endswith("it runs 6.1.0-9-cloud-amd64, and 6.1.0-10-cloud-amd64 is installed")


def test_what_apt_prints_is_understood():
    """Upgrade, new, removal, again, foreign architecture; nothing else."""
    text = (
        "Reading package lists...\nInst a [1:1.0-1] (1:1.0-2 Debian:12.5/stable [amd64]) [b:amd64 ]"
        "\nInst b (2~rc1 local-deb [all])\nRemv c [3]\nPurg d [4]\nInst e:i386 [5] (5 x [i386])\n"
        "Conf a (1:1.0-2 Debian:12.5/stable [amd64])\n"
    )
    said = [str(change) for change in parse(text)]
    assert said == [
        "a 1:1.0-1 → 1:1.0-2",
        "b 2~rc1 new",
        "c 3 removed",
        "d 4 removed",
        "e:i386 5 again",
    ]
    assert parse(text)[4].package == "e"


def test_what_it_means_for_qemu_and_libvirt_is_said():
    """QEMU may be replaced under running guests; one should know what that does and does not do."""
    upgraded = [Change("qemu-system-x86", "7", "8"), Change("libvirt-daemon", "9", "10")]
    said = " ".join(remarks(upgraded))
    assert "stay in the QEMU they were started with" in said
    assert "harness connects again" in said
    assert "none can be started" in " ".join(remarks([Change("qemu-system-x86", "7", None)]))
    assert not list(remarks([Change("qemu-guest-agent", "7", None)]))


@pytest.mark.parametrize(
    ("packages", "settings", "words"),
    [
        (("./gone.deb",), {}, "gone.deb: no such file"),
        (("agent.deb",), {}, "a file is named with a slash"),
        (("--purge",), {}, "'--purge' is no name of a package"),
        (("agent; reboot",), {}, "is no name of a package"),
        ((), {"hold": ("agent",)}, "update.hold: would change agent 1 → 2, which is held"),
        ((), {"scope": Scope.GUEST}, "update.scope: .* scope is host"),
        ((), {"uri": "qemu+ssh://host/system"}, "changes this machine, but the guests are at"),
    ],
)
def test_bad_settings_are_refused(fake, packages, settings, words):
    """With the key, before anything is asked of apt."""
    with pytest.raises(ConfigError, match=words):
        update(*packages, **settings).check()


def test_packages_must_be_named():
    with pytest.raises(ConfigError, match="update.packages: .* needs packages"):
        PackagesUpdate(PackagesSettings())


def test_what_apt_refuses_is_refused_in_its_words(fake):
    """Unknown packages, held ones, a removal of what is essential: apt knows."""
    (fake / "refusal").write_text("Unable to locate package agent")
    with pytest.raises(ConfigError, match="update.packages: .*Unable to locate package agent"):
        update().check()


def test_nothing_to_do_is_refused(fake):
    """Nobody is paused for nothing."""
    (fake / "simulation").write_text("0 upgraded\n")
    with pytest.raises(NotNeeded, match="nothing would change"):
        update().check()


#: Holds a lock until its stdin ends.
HOLDER = """
import fcntl, sys
file = open(sys.argv[1], "r+b")
fcntl.lockf(file, fcntl.LOCK_EX)
print("held", flush=True)
sys.stdin.read()
"""


def test_a_host_whose_dpkg_is_not_fit_is_refused(fake):
    """Half-installed packages; somebody else at work; nobody's root."""
    (fake / "audit").write_text("The following packages are only half configured: x\n")
    with pytest.raises(UpdateFailed, match="only half configured: x .*dpkg --configure -a"):
        update().check()
    (fake / "audit").write_text("")
    words = [sys.executable, "-c", HOLDER, fake / "lock"]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        other.stdout.readline()
        with pytest.raises(UpdateFailed, match="another program is changing packages"):
            update().check()
        other.stdin.close()
    update().check()
    with open(fake / "lock", "r+b") as file:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # it was given back


def test_only_root_changes_packages(fake, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(MissingCapability, match="needs root"):
        update().check()


def test_a_file_or_folder_that_anybody_can_change_is_refused(fake, tmp_path):
    """Its scripts would run as root."""
    deb = tmp_path / "agent_2_all.deb"
    deb.write_text("")
    deb.chmod(0o666)
    with pytest.raises(ConfigError, match="can be changed by any user"):
        update(str(deb)).check()
    repository = tmp_path / "repository"
    repository.mkdir()
    with pytest.raises(ConfigError, match="has no index .*dpkg-scanpackages"):
        update(repository=repository).check()
    (repository / "Packages").touch()
    repository.chmod(0o777)
    with pytest.raises(ConfigError, match="update.repository: .*can be changed by any user"):
        update(repository=repository).check()


def test_a_repository_is_the_only_source(fake, tmp_path):
    """Its index is ours, in the state folder; the host's own is not touched."""
    repository = tmp_path / "a b"
    repository.mkdir()
    (repository / "Packages").touch()
    update(repository=repository, state_dir=tmp_path / "state").check()
    (sources,) = (tmp_path / "state").rglob("sources.list")
    assert sources.read_text() == f"deb [trusted=yes] file:{tmp_path}/a%20b ./\n"
    asked = [call for call in calls(fake) if call.startswith("apt-get")]
    assert asked[0].endswith(" update")
    assert all(f"Dir::Etc::SourceList={sources}" in call for call in asked)
    assert all("Dir::Etc::SourceParts=/dev/null" in call for call in asked)


def test_an_abandoned_transaction_is_ended_and_rolled_back(fake, context):
    """apt that never ends is killed with all it started; then dpkg puts the old version back."""
    old_deb(fake)
    text = (fake / "apt-get").read_text()
    (fake / "apt-get").write_text(
        text.replace("cp after installed;", "cp after installed; sleep 60;")
    )
    one = prepared(context)
    with pytest.raises(UpdateOverran, match="did not end within"):
        one.apply(context, Deadline.after(0.5))
    one.rollback(context, soon())
    assert (fake / "installed").read_text() == "agent installed 1\n"
