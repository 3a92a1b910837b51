"""Guests without SSH: maintained by their guest agent alone, on a real Debian.

Requires: the session's lab, of which debian-1 has the agent. Leaves behind: nothing; sshd and the
agent run as before, and the clock is right.
"""

from __future__ import annotations

import json
import subprocess
import threading
from contextlib import contextmanager
from xml.etree import ElementTree

import pytest

from harness.core.timebase import Deadline, NotYet, wait_for
from harness.host.lifecycle import GuestState
from harness.lab import guests as labs
from harness.lab.domain import domain_xml
from harness.lab.specs import GuestSpec
from tests.clocks import set_right

BLOCKED = "guest-exec,guest-exec-status,guest-file-open"
DROP_IN = "/run/systemd/system/qemu-guest-agent.service.d"


class Console:
    """A way into debian-1 that needs no agent, and that does not end with sshd's listener."""

    def __init__(self, lab) -> None:
        folder = lab.config_file.parent
        address = next(guest.address for guest in lab.guests if guest.name == "debian-1")
        words = ["ssh", "-i", str(folder / "id_ed25519"), "-o", "IdentitiesOnly=yes"]
        words += ["-o", f"UserKnownHostsFile={lab.known_hosts}", "-o", "LogLevel=ERROR"]
        self._shell = subprocess.Popen(
            [*words, f"root@{address}", "sh"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def send(self, command: str) -> None:
        """Have a command run, as soon as the guest runs."""
        self._shell.stdin.write(command + "\n")
        self._shell.stdin.flush()

    def run(self, command: str) -> str:
        """Run a command, and return the last line of what it printed."""
        self.send(f"{{ {command}; }} 2>&1 | tail -1; echo end-of-that")
        said = ""
        for line in self._shell.stdout:
            if line == "end-of-that\n":
                return said.strip()
            said = line
        raise AssertionError("the console has ended")

    def close(self) -> None:
        self._shell.stdin.close()
        self._shell.wait(20)
        self._shell.stdout.close()


@pytest.fixture
def console(lab):
    """A shell in debian-1; afterwards its agent goes on."""
    opened = Console(lab)
    yield opened
    opened.run("kill -CONT $(pidof qemu-ga)")
    opened.close()


@pytest.fixture
def right_again(lab):
    """For a test that leaves the clock of debian-1 wrong."""
    yield
    set_right(["debian-1"], lab.config_file)


@pytest.fixture
def uuid(lab) -> str:
    return next(guest.uuid for guest in lab.guests if guest.name == "debian-1")


def answers(libvirt, uuid: str) -> None:
    """Wait until the agent answers."""

    def ask() -> None:
        try:
            libvirt.ask_agent(uuid, "guest-ping", Deadline.after(2), None)
        except Exception as error:
            raise NotYet(str(error)) from error

    wait_for(ask, what="the agent", deadline=Deadline.after(30), interval_s=0.1)


@contextmanager
def blocked(console, libvirt, uuid: str, commands: str):
    """The agent runs with some commands switched off."""
    line = f"ExecStart=/usr/sbin/qemu-ga -b {commands}"
    console.run(
        f"mkdir -p {DROP_IN}; printf '[Service]\\nExecStart=\\n{line}\\n' >{DROP_IN}/b.conf; "
        "systemctl daemon-reload; systemctl restart qemu-guest-agent"
    )
    answers(libvirt, uuid)
    try:
        yield
    finally:
        console.run(f"rm -r {DROP_IN}; systemctl daemon-reload; systemctl restart qemu-guest-agent")
        answers(libvirt, uuid)


def outcomes(guest: dict) -> dict[str, str]:
    return {check["name"]: check["outcome"] for check in guest["checks"]}


def test_guests_with_and_without_ssh_are_maintained_in_one_run(harness, console):
    """sshd is stopped in one: its clock is right to 10 ms by the agent, and the record says how."""
    console.run("systemctl stop ssh")
    try:
        ended = harness(
            "run", "debian-1", "tiny-1", "--duration", "1", "--access", "auto", "--json"
        )
    finally:
        console.run("systemctl start ssh")
    guests = {guest["name"]: guest for guest in ended.record["guests"]}
    debian = guests["debian-1"]
    assert ended.code == 0, ([outcomes(guest) for guest in guests.values()], ended.err)
    assert guests["tiny-1"]["facts"]["access"] == "ssh"
    assert debian["facts"]["access"] == "agent"
    assert debian["facts"]["address_from"].startswith("no login by SSH: ")
    assert debian["identity"]["bound_by"] == "agent-channel"
    clock = debian["clock"]["after_correction"]
    assert abs(clock["offset_s"]) + clock["uncertainty_s"] <= 0.010
    assert debian["clock"]["method"] in ("relative-step", "chronyd")
    other = {
        check["name"]: check["detail"] for check in debian["checks"] if check["outcome"] != "pass"
    }
    young = "no process had run for 60 s"  # where this is the lab's first test
    assert not other or (set(other) == {"processes"} and other["processes"].startswith(young)), (
        other
    )
    left = "ls -d /run/harness-* 2>/dev/null; pgrep -fx 'sleep 86400|python3 -ISB .*'"
    assert console.run(left) == ""


def test_an_agent_that_runs_no_program_keeps_the_clock_right_by_itself(
    harness, console, libvirt, uuid
):
    """What it cannot tell is SKIP, and names the commands that are blocked."""
    with blocked(console, libvirt, uuid, BLOCKED):
        planned = harness("plan", "debian-1", "--access", "agent", "--json")
        ended = harness("run", "debian-1", "--duration", "1", "--access", "agent", "--json")
    assert "guest-exec (blocked)" in json.dumps(planned.record)
    (guest,) = ended.record["guests"]
    assert ended.code == 0, (guest["checks"], ended.err)
    assert guest["clock"]["method"] == "guest-agent"
    assert guest["clock"]["after_correction"]["uncertainty_s"] < 0.010
    skipped = {name for name, said in outcomes(guest).items() if said == "skip"}
    assert {"frozen", "same-boot", "kernel-log", "canary"} <= skipped
    assert outcomes(guest)["clock"] == "pass"


def test_an_agent_that_hangs_before_the_pause_refuses_the_guest(harness, console, libvirt, uuid):
    """In bounded time; nothing is paused, and it is told why."""
    console.run("kill -STOP $(pidof qemu-ga)")
    ended = harness("run", "debian-1", "--access", "agent", "--json",
                    HARNESS_PREPARE_TIMEOUT_S="4")  # fmt: skip
    console.run("kill -CONT $(pidof qemu-ga)")
    assert ended.code == 3
    assert "guest agent" in ended.err
    assert ended.record["update_domains"] == []
    answers(libvirt, uuid)


@pytest.mark.parametrize("signal", ["STOP", "KILL"])
def test_an_agent_that_is_lost_in_the_pause_leaves_the_guest_running_and_unjudged(
    harness, right_again, console, libvirt, uuid, script, tmp_path, signal
):
    """The console's word waits in the guest's card, and is the first that it hears afterwards."""
    ready, go = tmp_path / "paused", tmp_path / "told"
    update = script(f"touch '{ready}'; while [ ! -e '{go}' ]; do sleep 0.05; done")

    def lose_it() -> None:
        wait_for(lambda: ready.stat(), what="the pause", deadline=Deadline.after(60),
                 retry_on=(FileNotFoundError,))  # fmt: skip
        console.send(f"kill -{signal} $(pidof qemu-ga)")
        go.touch()

    losing = threading.Thread(target=lose_it)
    losing.start()
    ended = harness("run", "debian-1", "--update", update, "--access", "agent", "--json",
                    HARNESS_MEND_TIMEOUT_S="8")  # fmt: skip
    losing.join()
    (guest,) = ended.record["guests"]
    assert (ended.code, guest["still_paused"]) == (3, False)
    assert outcomes(guest)["pause-window"] == "pass"
    assert "error" in outcomes(guest).values()
    assert libvirt.state(uuid, Deadline.after(5)).state is GuestState.RUNNING
    console.run("kill -CONT $(pidof qemu-ga)")
    answers(libvirt, uuid)


def test_an_agent_on_an_isa_serial_port_is_none_that_libvirt_asks(
    lab, tmp_path, monkeypatch, harness
):
    """In a lab of its own, without a virtio channel: refused, and said why; nothing is paused."""
    monkeypatch.setenv("HARNESS_STATE_DIR", str(tmp_path / "state"))

    def by_isa_serial(*given):
        described = ElementTree.fromstring(domain_xml(*given))
        devices = described.find("devices")
        devices.remove(devices.find("channel"))
        port = ElementTree.SubElement(devices, "serial", type="unix")
        ElementTree.SubElement(port, "source", mode="bind", path=str(tmp_path / "agent"))
        ElementTree.SubElement(port, "target", type="isa-serial", port="1")
        return ElementTree.tostring(described, encoding="unicode")

    monkeypatch.setattr(labs, "domain_xml", by_isa_serial)
    labs.up([GuestSpec("isa-1", "tiny")], deadline=Deadline.after(90), progress=print)
    try:
        ended = harness("run", "isa-1", "--access", "agent", "--duration", "1", "--json")
    finally:
        labs.down(print)
    assert ended.code in (2, 3), ended.err
    assert "QEMU guest agent is not configured" in ended.out + ended.err
    assert '"paused"' not in "".join(
        path.read_text() for path in (tmp_path / "state" / "runs").glob("*/journal.jsonl")
    )
