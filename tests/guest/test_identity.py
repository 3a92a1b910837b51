"""Who answers is the guest that is paused: addresses that lead elsewhere, users without rights,
ports and jumps. Whatever is refused is refused before anything is paused.

Requires: the session's lab. Leaves behind: nothing; clocks are right, addresses as they were.
"""

from __future__ import annotations

import json
import tomllib
from contextlib import contextmanager
from pathlib import Path

import pytest
import tomli_w

from harness.core.timebase import Deadline
from harness.host.lifecycle import GuestState
from harness.testing.slow_way import slow_way
from tests.guest.test_clock_guests import tell


@pytest.fixture
def configured(lab, tmp_path):
    """``configured({"tiny-1": {...}}, ssh={...})``: the lab's harness.toml with that changed."""

    def write(changes=None, ssh=None, **sections) -> str:
        document = tomllib.loads(lab.config_file.read_text())
        for key in ("identity_file", "known_hosts"):
            document["ssh"][key] = str(lab.config_file.parent / document["ssh"][key])
        document["ssh"].update(ssh or {})
        document.update(sections)
        for guest in document["guest"]:
            guest.update((changes or {}).get(guest["name"], {}))
        file = tmp_path / "harness.toml"
        file.write_text(tomli_w.dumps(document))
        return str(file)

    return write


def address_of(lab, name: str) -> str:
    return next(guest.address for guest in lab.guests if guest.name == name)


def nothing_was_paused(lab, libvirt, runs: Path) -> bool:
    """By libvirt, and by the journal of the run."""
    journals = [file.read_text() for file in runs.glob("*/journal.jsonl")]
    assert all('"pausing"' not in journal for journal in journals)
    until = Deadline.after(10)
    states = [libvirt.state(guest.uuid, until).state for guest in lab.guests]
    return set(states) == {GuestState.RUNNING}


@pytest.fixture
def runs(tmp_path):
    """Where the runs of a test are kept, with ``HARNESS_STATE_DIR=runs.parent``."""
    return tmp_path / "state" / "runs"


def test_two_guests_with_one_address_are_refused_before_anything_is_paused(
    harness, lab, libvirt, configured, runs
):
    """Exit 2; the message names both. It was exit 0 and "clock right", with one clock unseen."""
    one = address_of(lab, "tiny-1")
    config = configured({"tiny-2": {"address": one}})
    ended = harness(
        *("run", "tiny-1", "tiny-2", "-c", config, "--duration", "0.5"),
        HARNESS_STATE_DIR=str(runs.parent),
    )
    assert ended.code == 2, ended.err
    assert f"tiny-2: what answers at {one} is guest tiny-1, not tiny-2" in ended.err
    assert nothing_was_paused(lab, libvirt, runs)


def test_an_address_of_another_running_guest_is_refused_and_says_whose_it_is(
    harness, lab, libvirt, configured, runs
):
    """That guest is no part of the run; `clock` and `doctor` say the same."""
    other = address_of(lab, "debian-1")
    config = configured({"tiny-1": {"address": other}})
    said = f"what answers at {other} is guest debian-1, not tiny-1"
    for arguments in (
        ("run", "tiny-1", "--duration", "0.5"),
        ("clock", "correct", "tiny-1"),
        ("doctor",),
    ):
        ended = harness(*arguments, "-c", config, HARNESS_STATE_DIR=str(runs.parent))
        assert ended.code in (2, 3), (arguments, ended.err)
        assert said in " ".join((ended.out + ended.err).split()), arguments
    assert nothing_was_paused(lab, libvirt, runs)


def test_every_guest_of_the_lab_is_bound_by_its_machines_uuid(harness, lab):
    """Busybox and Debian alike, as root; the guest agent tells the same boot."""
    names = [guest.name for guest in lab.guests]
    ended = harness("run", *names, "--duration", "0.5", "--json")
    assert ended.code == 0, ended.err
    for guest in ended.record["guests"]:
        assert guest["identity"]["bound_by"] == "machine-uuid", guest["identity"]
        assert guest["identity"]["machine_uuid"] == guest["uuid"]
        checks = {check["name"]: check for check in guest["checks"]}
        assert checks["downtime"]["outcome"] == "pass", "it is asked at its own address"
    assert not [line for line in ended.record["warnings"] if "cannot be told" in line]


def test_the_guest_agent_tells_the_boot_that_ssh_reached(lab, libvirt, session):
    """Another channel of that very guest; one without an agent tells nothing."""
    from harness.core.errors import HypervisorError

    debian, tiny = session("debian-1"), session("tiny-1")
    told = libvirt.agent_facts(debian.info.uuid, Deadline.after(20))
    assert (told.boot_id, told.sets_time) == (debian.facts.boot_id, True)
    with pytest.raises(HypervisorError):
        libvirt.agent_facts(tiny.info.uuid, Deadline.after(20))


@contextmanager
def plain_user(debian):
    """``someone`` of debian-1: no root, no sudo."""
    tell(
        debian,
        "id someone >/dev/null 2>&1 || useradd -m -s /bin/sh someone; mkdir -p ~someone/.ssh; "
        "cp /root/.ssh/authorized_keys ~someone/.ssh/ && chown -R someone ~someone/.ssh; "
        "rm -f /etc/sudoers.d/someone",
    )
    try:
        yield "someone"
    finally:
        tell(debian, "rm -f /etc/sudoers.d/someone; mount -o remount,hidepid=0 /proc")


def test_a_plain_user_is_refused_before_the_pause_and_doctor_says_it_too(
    harness, lab, libvirt, configured, runs, session
):
    """EPERM was met after the pause. Now only --no-correct goes on, bound by a MAC."""
    debian = session("debian-1")
    with plain_user(debian) as user:
        config = configured(ssh={"user": user})
        only_root = ("--method", "slew", "--method", "relative-step")
        ended = harness(
            *("run", "debian-1", "-c", config, "--duration", "0.5", *only_root),
            HARNESS_STATE_DIR=str(runs.parent),
        )
        assert ended.code == 2, ended.err
        assert "debian-1: its clock may not be set by this user: EPERM" in ended.err
        assert "--no-correct" in ended.err
        assert nothing_was_paused(lab, libvirt, runs)
        config = configured(ssh={"user": user}, clock={"methods": ["relative-step"]})
        looked = harness("doctor", "-c", config)
        assert looked.code != 0
        assert "may not be set by this user" in " ".join((looked.out + looked.err).split())
        ended = harness(
            "run", "debian-1", "-c", config, "--duration", "0.5", "--no-correct", "--json"
        )
    guest = ended.record["guests"][0]
    assert guest["pause_window_s"] > 0.4
    assert guest["identity"]["bound_by"] == "mac"
    assert guest["identity"]["machine_uuid"] is None


def test_under_hidepid_nothing_is_said_about_processes(harness, configured, session):
    """``processes PASS: 0 had run``: of those that this user could not see. sudo is a right."""
    debian = session("debian-1")
    with plain_user(debian) as user:
        allowed = "echo 'someone ALL=(root) NOPASSWD: ALL' >/etc/sudoers.d/someone"
        tell(debian, f"{allowed}; mount -o remount,hidepid=2 /proc")
        config = configured(ssh={"user": user, "sudo": True})
        ended = harness("run", "debian-1", "-c", config, "--duration", "0.5", "--json")
    guest = ended.record["guests"][0]
    checks = {check["name"]: check for check in guest["checks"]}
    assert checks["processes"]["outcome"] == "skip", checks["processes"]
    assert "hidepid" in checks["processes"]["detail"]
    assert checks["mounts"]["outcome"] == "pass"
    assert guest["identity"]["bound_by"] == "machine-uuid"
    assert guest["facts"]["time_daemon"] == "unknown"


@pytest.mark.parametrize("name", ["tiny-1", "debian-1"])
def test_what_answers_at_a_forwarded_port_is_not_asked_about_the_pause(
    harness, lab, configured, name
):
    """The runner answered its own pings: ``downtime FAIL: answered while it was paused``."""
    with slow_way(address_of(lab, name), 22, 0.0, 0.0) as port:
        known = (lab.config_file.parent / "known_hosts").read_text()
        here = next(line.split(" ", 1)[1] for line in known.splitlines()
                    if line.split()[0] == address_of(lab, name))  # fmt: skip
        hosts = Path(configured()).parent / "hosts"
        hosts.write_text(f"[127.0.0.1]:{port} {here}\n")
        ssh = {"port": port, "known_hosts": str(hosts)}
        config = configured({name: {"address": "127.0.0.1", "ssh": ssh}})
        ended = harness("run", name, "-c", config, "--duration", "1", "--json")
    assert ended.code == 0, ended.err + json.dumps(ended.record["guests"], indent=1)
    checks = {check["name"]: check for check in ended.record["guests"][0]["checks"]}
    assert checks["downtime"]["outcome"] == "skip"
    assert f"127.0.0.1 port {port} is a port of this machine" in checks["downtime"]["detail"]
    assert checks["tcp-session"]["outcome"] == "pass"
    assert "over ssh" in checks["tcp-session"]["detail"]
    assert ended.record["guests"][0]["identity"]["bound_by"] == "machine-uuid"


def test_behind_a_jump_host_nobody_else_is_asked(harness, lab, configured):
    """An address that means something only there: the guest's own channel tells."""
    jump = f"root@{address_of(lab, 'debian-1')}"
    config = configured({"tiny-1": {"ssh": {"proxy_jump": jump}}})
    ended = harness("run", "tiny-1", "-c", config, "--duration", "1", "--json")
    assert ended.code == 0, ended.err
    checks = {check["name"]: check for check in ended.record["guests"][0]["checks"]}
    assert checks["downtime"]["outcome"] == "skip"
    assert "reached through" in checks["downtime"]["detail"]
    assert checks["tcp-session"]["outcome"] == "pass"
    assert ended.record["guests"][0]["identity"]["bound_by"] == "machine-uuid"
