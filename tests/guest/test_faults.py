"""What goes wrong in a maintenance on real guests: everybody runs again, and the record says why.

Requires: the session's lab. Leaves behind: nothing; the guests' clocks are right.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from harness.core.paths import state_dir
from harness.core.timebase import Deadline, NotYet, Stopwatch, wait_for
from harness.host.lifecycle import GuestState
from harness.results.folder import find_run
from harness.results.journal import entries, read


def test_an_update_that_fails_leaves_everybody_running_and_right(harness, script):
    """Exit 3: nothing can be said about an update that was not applied; its words are kept."""
    ended = harness("run", "tiny-1", "--update", script("echo sorry; exit 7"), "--json")
    assert ended.code == 3
    domain = ended.record["update_domains"][0]
    assert "ended with status 7" in domain["problems"][0]
    clock = ended.record["guests"][0]["clock"]["after_correction"]
    assert abs(clock["offset_s"]) + clock["uncertainty_s"] <= 0.050
    log = find_run(state_dir(), None).path / "update-0.log"
    assert log.read_text() == "sorry\n"


def test_an_update_that_overruns_is_ended_and_the_guests_are_resumed_in_time(harness, script):
    """It ignores TERM and has a child; the pause stays within the budget, exit 3.

    The update's own clock and the window's end it at the same moment; both say what helps.
    """
    body = "trap '' TERM; sleep 300 & sleep 300"
    ended = harness("run", "tiny-1", "--update", script(body), "--expected", "1",
                    "--budget", "4", "--reserve", "2", "--json")  # fmt: skip
    assert ended.code == 3
    domain = ended.record["update_domains"][0]
    assert "give it a larger --budget" in domain["problems"][0]
    assert domain["pause_window_s"] < 4
    found = read(find_run(state_dir(), None).path / "journal.jsonl").entries
    assert [e.by for e in found if isinstance(e, entries.Resumed)] == ["run"]
    left = subprocess.run(["pgrep", "-f", "^sleep 300"], capture_output=True, text=True)
    assert left.stdout == ""


def test_after_an_unhealthy_domain_the_next_is_not_touched(harness, libvirt, lab, script):
    """tiny-1 is in domain 0, tiny-2 in domain 1."""
    uuid = next(guest.uuid for guest in lab.guests if guest.name == "tiny-2")
    ended = harness("run", "tiny-1", "tiny-2", "--update", script("exit 1"),
                    "--scope", "guest", "--json")  # fmt: skip
    assert ended.code == 3
    assert [d["outcome"] for d in ended.record["update_domains"]] == ["error", "skip"]
    assert ended.record["guests"][1]["pause_window_s"] is None
    found = read(find_run(state_dir(), None).path / "journal.jsonl").entries
    pausings = [entry for entry in found if isinstance(entry, entries.Pausing)]
    assert len(pausings) == 1
    assert uuid not in str(pausings)


@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        (("--expected", "29"), "exceeds the budget of 30.0 s"),
        (("--budget", "4", "--duration", "3"), "exceeds the budget of 4.0 s"),
    ],
)
def test_an_update_that_cannot_fit_is_refused_before_anything_is_paused(
    harness, libvirt, lab, flags, reason
):
    """At plan time, exit 2, with the reason; no event ever reached the guest."""
    uuid = lab.guests[0].uuid
    before = len(libvirt.events(uuid))
    ended = harness("run", "tiny-1", *flags)
    assert ended.code == 2
    assert reason in " ".join(ended.err.split())
    assert len(libvirt.events(uuid)) == before


def test_an_update_that_does_not_preserve_memory_is_refused(harness, tmp_path, lab):
    """Declared in the configuration; exit 2."""
    text = lab.config_file.read_text() + "\n[update]\npreserves_memory = false\n"
    config = lab.config_file.with_name("no-memory.toml")
    config.write_text(text)
    ended = harness("run", "-c", str(config), "tiny-1")
    assert ended.code == 2
    assert "does not preserve guest memory" in " ".join(ended.err.split())


def test_a_guest_that_somebody_else_paused_is_refused_and_stays_paused(harness, libvirt, lab):
    """Refused at preflight; the others are not paused either; it is never resumed by us."""
    theirs, ours = lab.guests[0], lab.guests[1]
    libvirt.pause(theirs.uuid, Deadline.after(10))
    try:
        before = len(libvirt.events(ours.uuid))
        ended = harness("run", theirs.name, ours.name)
        assert ended.code == 3
        assert "never resumes what it did not pause" in " ".join(ended.err.split())
        state = libvirt.state(theirs.uuid, Deadline.after(10)).state
        assert state is GuestState.PAUSED
        assert len(libvirt.events(ours.uuid)) == before
    finally:
        libvirt.resume(theirs.uuid, Deadline.after(10))
    assert harness("clock", "correct", theirs.name).code == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_in_the_window_resumes_mends_and_exits_130(lab, libvirt, tmp_path, number):
    """Sent twice while the guest is paused: it runs again, its clock is right, all on record."""
    guest = lab.guests[0]
    process = subprocess.Popen(
        [sys.executable, "-m", "harness", "run", guest.name, "--duration", "20"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
        env=os.environ,
    )

    def paused():
        if libvirt.state(guest.uuid, Deadline.after(5)).state is not GuestState.PAUSED:
            raise NotYet("not paused yet")

    wait_for(paused, what="the pause", deadline=Deadline.after(60), interval_s=0.05)
    watch = Stopwatch()
    process.send_signal(number)
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert watch.elapsed_s() < 15, "it did not wait for the update"
    assert process.returncode == 130, err
    record = find_run(state_dir(), None).record()
    assert record.exit_code == 130
    end = record.guests[0].clock.after_correction
    assert abs(end.offset_s) + end.uncertainty_s <= 0.050
