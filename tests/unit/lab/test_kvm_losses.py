"""What emulation did is told from a broken promise: what is done again, and what never."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from harness.core.identity import boot_id
from harness.core.process_stat import start_ticks
from harness.lab.box import state
from tests import losses
from tests.losses import BoxLost, GuestEnded, GuestStalled, Losses


@pytest.fixture(autouse=True)
def box(tmp_path, monkeypatch):
    """A box's notes, in a folder of our own; port 1 of loopback is nobody's."""
    monkeypatch.setenv("HARNESS_STATE_DIR", str(tmp_path))
    monkeypatch.delenv("HARNESS_KVM_BOX", raising=False)
    state.box_dir().mkdir(parents=True)
    found = state.BoxState("", "tcg", 1, 3072, 1, boot_id())
    state.save(found)
    return found


@pytest.fixture
def qemu(box):
    """A process that stands for the box's QEMU."""
    with subprocess.Popen(["sleep", "60"]) as process:
        state.save(replace(box, pid=process.pid, start_ticks=start_ticks(process.pid)))
        yield process
        process.kill()


def answers(monkeypatch, code: int) -> None:
    """The box's SSH answers with this exit code."""
    words = ["sh", "-c", f"exit {code}"]
    monkeypatch.setattr(losses.ssh, "command", lambda *_: words)


def test_a_box_whose_qemu_has_ended_is_lost_and_its_console_is_told(box):
    """At once, without a minute's wait."""
    state.serial_log().write_text("Kernel panic\n\n")
    with pytest.raises(BoxLost, match=r"QEMU has ended; serial.log: Kernel panic"):
        losses.look()


def test_a_box_whose_qemu_ends_just_now_is_not_waited_for(qemu, monkeypatch):
    """SSH notices before the process is gone."""
    monkeypatch.setattr(
        losses.ssh, "command", lambda *_: ["sh", "-c", f"kill -KILL {qemu.pid}; false"]
    )
    with pytest.raises(BoxLost, match="QEMU has ended"):
        losses.look(silent_s=30)


def test_a_box_that_is_silent_is_lost(qemu, monkeypatch):
    """Its QEMU runs, and nobody is in."""
    answers(monkeypatch, 255)
    with pytest.raises(BoxLost, match="SSH is silent"):
        losses.look(silent_s=0.1)


def test_a_box_that_answers_is_not_lost(qemu, monkeypatch):
    """Whatever a test has made of its answer."""
    answers(monkeypatch, 0)
    losses.look()


def attempts(*outcomes: BaseException | None):
    """A test that ends like this, one time after another; how often is in ``.done``."""

    def run() -> None:
        outcome = outcomes[attempt.done]
        attempt.done += 1
        if outcome is not None:
            raise outcome

    attempt: Any = run
    attempt.done = 0
    return attempt


def test_a_failed_promise_is_never_done_again():
    """Not even where a box could be made anew."""
    attempt, renewed = attempts(AssertionError("wrong clock"), None), []
    found = Losses()
    with pytest.raises(AssertionError, match="wrong clock"):
        found.outlive("test", attempt, lambda: renewed.append(1))
    assert (attempt.done, renewed, found.told) == (1, [], [])


def test_a_promise_that_fails_in_the_next_box_has_failed():
    """The loss before it is no excuse."""
    attempt = attempts(BoxLost("gone"), AssertionError("wrong clock"), None)
    with pytest.raises(AssertionError, match="wrong clock"):
        Losses().outlive("test", attempt, lambda: None)


def test_what_lost_its_box_is_done_again_in_another_and_told():
    """Once for each box."""
    attempt, renewed, found = attempts(BoxLost("gone"), None), [], Losses()
    found.outlive("test", attempt, lambda: renewed.append(1))
    assert (attempt.done, renewed) == (2, [1])
    assert found.told == ["test: the box was lost: gone"]


def test_a_session_that_goes_on_losing_boxes_fails():
    """A fault of ours loses every one of them. The count is the session's, not a test's."""
    found = Losses()
    found.outlive("one", attempts(BoxLost("first"), None), lambda: None)
    with pytest.raises(pytest.fail.Exception, match=r"(?s)one: .*first.*two: .*second.*third"):
        found.outlive("two", attempts(BoxLost("second"), BoxLost("third"), None), lambda: None)


def test_a_box_that_was_given_is_left_as_it_is(monkeypatch):
    """To be looked at."""
    monkeypatch.setenv("HARNESS_KVM_BOX", "/box")
    renewed = []
    with pytest.raises(pytest.fail.Exception, match="gone"):
        Losses().outlive("test", attempts(BoxLost("gone"), None), lambda: renewed.append(1))
    assert not renewed


def in_the_box(*running: str):
    """What ``sh`` in a box with these guests says."""

    def sh(line: str) -> SimpleNamespace:
        if line.startswith("virsh domstate"):
            return SimpleNamespace(code=0 if line.split()[2] in running else 1, out="")
        return SimpleNamespace(code=0, out="shutting down, reason=shutdown\n")

    return sh


def test_a_guest_that_is_gone_is_told_with_its_last_words(box):
    """And one that is there is not."""
    losses.look_for_end(["kvm-1", "kvm-2"], in_the_box("kvm-1", "kvm-2"))
    with pytest.raises(GuestEnded, match="kvm-2 has ended by itself: shutting down"):
        losses.look_for_end(["kvm-1", "kvm-2"], in_the_box("kvm-1"))


def test_a_guest_that_is_gone_on_hardware_is_no_fault_of_emulation(box):
    """There nothing excuses it."""
    state.save(replace(box, accelerator="kvm"))
    losses.look_for_end(["kvm-1"], in_the_box())


def run(**broken: str) -> dict:
    """The record of a run of one guest in which these checks did not pass."""
    outcomes = {"clock": "pass", "downtime": "pass", "timers": "pass", **broken}
    checks = [{"name": n, "outcome": o, "measured": 13.9} for n, o in outcomes.items()]
    return {"guests": [{"name": "kvm-2", "problems": [], "checks": checks}]}


def test_a_guest_that_stood_still_is_told_by_two_probes():
    """From outside and from inside."""
    with pytest.raises(GuestStalled, match=r"kvm-2 for 13\.9 s"):
        losses.look_for_stall(run(downtime="fail", timers="fail"))


@pytest.mark.parametrize(
    "broken",
    [
        {},
        {"timers": "fail"},
        {"downtime": "fail"},
        {"downtime": "fail", "timers": "fail", "clock": "fail"},
        {"downtime": "fail", "timers": "fail", "clock": "error"},
    ],
)
def test_anything_else_that_is_broken_is_a_promise(broken):
    """One probe is not enough, and no other promise may be broken."""
    losses.look_for_stall(run(**broken))


def test_on_a_real_kvm_nothing_stands_still_by_itself(box):
    """There a guest that is silent has been kept from running."""
    state.save(replace(box, accelerator="kvm"))
    losses.look_for_stall(run(downtime="fail", timers="fail"))


def test_a_guest_that_stalled_costs_no_box():
    """The test is done again where it was."""
    attempt, renewed, found = attempts(GuestStalled("still"), None), [], Losses()
    found.outlive("test", attempt, lambda: renewed.append(1))
    assert (attempt.done, renewed, found.told) == (2, [], ["test: still"])
