"""INT, TERM and HUP only ask; and one call in a thread that nobody has to wait for."""

from __future__ import annotations

import os
import signal
import threading

import pytest

from harness.core.errors import Interrupted, UpdateFailed
from harness.core.signals import SIGNALS, Interruption, Job
from harness.core.timebase import NS_PER_S, Deadline, Stopwatch
from harness.testing.clock import FakeClock

#: Long beside anything that should happen at once, short beside a test run that hangs.
LONG_S = 30.0


def send(number: signal.Signals) -> None:
    os.kill(os.getpid(), number)


def no_time() -> Deadline:
    return Deadline.after(0, FakeClock())


def descriptors() -> set[int]:
    """Those that are open now; not the one that looking takes."""
    listed = {int(name) for name in os.listdir("/proc/self/fd")}
    return {number for number in listed if os.path.exists(f"/proc/self/fd/{number}")}


@pytest.fixture
def release():
    """Set at the end of the test, so that no job outlives it."""
    event = threading.Event()
    yield event
    event.set()
    for thread in threading.enumerate():
        if thread.name == "test":
            thread.join(LONG_S)


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_is_held_and_remembered(number):
    """Nothing is raised where it arrives; its name is there when somebody asks."""
    with Interruption() as interruption:
        interruption.check()
        assert interruption.signal_name is None
        send(number)
        assert interruption.signal_name == number.name
        with pytest.raises(Interrupted) as caught:
            interruption.check()
    assert (caught.value.signal_name, caught.value.exit_code) == (number.name, 130)


def test_the_first_signal_counts_and_the_others_do_no_harm():
    """However often it is repeated, by whichever of them."""
    with Interruption() as interruption:
        send(signal.SIGTERM)
        for number in SIGNALS * 50:
            send(number)
        assert interruption.signal_name == "SIGTERM"


def test_outside_everything_is_as_it_was_before():
    """The handlers that were there come back, also after an exception, and no descriptor leaks."""
    before = [signal.getsignal(number) for number in SIGNALS]
    open_before, opened = descriptors(), set()
    with pytest.raises(UpdateFailed), Interruption():
        opened |= descriptors() - open_before
        assert all(signal.getsignal(n) not in before for n in SIGNALS)
        raise UpdateFailed("no")
    assert [signal.getsignal(number) for number in SIGNALS] == before
    assert opened
    assert not opened & descriptors()


def test_other_signals_are_left_alone():
    """Only those three are ours."""
    others = [signal.SIGCHLD, signal.SIGUSR1, signal.SIGPIPE, signal.SIGWINCH]
    before = [signal.getsignal(number) for number in others]
    with Interruption():
        assert [signal.getsignal(number) for number in others] == before


def test_a_pause_returns_as_soon_as_we_are_asked_to_stop():
    """Whether that was before the pause or in the middle of it."""
    watch = Stopwatch()
    with Interruption() as interruption:
        threading.Timer(0.01, send, [signal.SIGHUP]).start()
        interruption.pause(LONG_S)
        assert interruption.signal_name == "SIGHUP"
        interruption.pause(LONG_S)
    assert watch.elapsed_s() < LONG_S / 2


def test_a_pause_that_nobody_disturbs_lasts_its_time():
    """It does not return early for no reason."""
    watch = Stopwatch()
    with Interruption() as interruption:
        interruption.pause(0.02)
    assert 0.02 <= watch.elapsed_s() < LONG_S


def test_a_job_that_ends_is_waited_for():
    """And no longer than it takes."""
    watch = Stopwatch()
    with Interruption() as interruption:
        job = Job(lambda: "done", "test")
        assert interruption.finished(job, Deadline.after(LONG_S))
        assert interruption.finished(job, no_time()), "it stays finished"
    assert job.result() == "done"
    assert watch.elapsed_s() < LONG_S / 2


def test_a_job_that_outlasts_the_deadline_is_not_finished(release):
    """False, although the job is still at it."""
    with Interruption() as interruption:
        job = Job(lambda: release.wait(LONG_S), "test")
        assert not interruption.finished(job, Deadline.after(0.01))
        assert not interruption.finished(job, no_time())


def test_a_request_ends_the_waiting_before_the_deadline(release):
    """Whether it came before the waiting or while it lasted."""
    watch = Stopwatch()
    with Interruption() as interruption:
        job = Job(lambda: release.wait(LONG_S), "test")
        threading.Timer(0.01, send, [signal.SIGINT]).start()
        assert not interruption.finished(job, Deadline.after(LONG_S))
        assert not interruption.finished(job, Deadline.after(LONG_S))
    assert interruption.signal_name == "SIGINT"
    assert watch.elapsed_s() < LONG_S / 2


def test_a_job_that_is_done_is_done_even_if_we_were_asked_to_stop():
    """Its result is not thrown away."""
    with Interruption() as interruption:
        job = Job(lambda: 7, "test")
        assert interruption.finished(job, Deadline.after(LONG_S))
        interruption.request("SIGTERM")
        assert interruption.finished(job, no_time())
    assert job.result() == 7


def test_a_deadline_of_many_days_can_be_waited_for():
    """poll() counts milliseconds in a C int; a large budget must not break the window."""
    clock = FakeClock()
    deadline = Deadline(clock.monotonic_ns() + 10**9 * NS_PER_S, 1e9, clock)
    with Interruption() as interruption:
        assert interruption.finished(Job(lambda: None, "test"), deadline)


@pytest.mark.parametrize("error", [UpdateFailed("no"), ZeroDivisionError(), SystemExit(3)])
def test_a_job_raises_what_its_call_raised(error):
    """Ours, a bug or an exit: the very same exception, in the thread that asks."""

    def fail():
        raise error

    with Interruption() as interruption:
        job = Job(fail, "test")
        assert interruption.finished(job, Deadline.after(LONG_S))
    with pytest.raises(type(error)) as caught:
        job.result()
    assert caught.value is error


def test_a_job_runs_in_a_daemon_thread_of_its_own_under_its_name(release):
    """A call that hangs does not keep the process from ending."""
    seen = []

    def look():
        seen.append(threading.current_thread())

    with Interruption() as interruption:
        assert interruption.finished(Job(look, "update of web"), Deadline.after(LONG_S))
    assert (seen[0].name, seen[0].daemon) == ("update of web", True)
    assert seen[0] is not threading.current_thread()


def test_a_job_gives_its_descriptor_back():
    """Many updates do not use up the process's descriptors."""
    threads = []
    with Interruption() as interruption:
        before = descriptors()
        job = Job(lambda: threads.append(threading.current_thread()), "test")
        assert interruption.finished(job, Deadline.after(LONG_S))
        opened = descriptors() - before
        threads[0].join(LONG_S)
        del job
        assert opened
        assert not opened & descriptors()


def test_a_call_in_another_thread_notices_no_signals_and_can_be_asked_to_stop():
    """Handlers are the main thread's; a program may call from any."""
    before = [signal.getsignal(number) for number in SIGNALS]
    seen: list[object] = []

    def work() -> None:
        with Interruption() as interruption:
            seen.append([signal.getsignal(number) for number in SIGNALS])
            interruption.request("SIGTERM")
            seen.append(interruption.signal_name)

    thread = threading.Thread(target=work, name="test")
    thread.start()
    thread.join(LONG_S)
    assert seen == [before, "SIGTERM"]
