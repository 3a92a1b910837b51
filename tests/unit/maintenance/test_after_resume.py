"""What is started for a guest before its pause, and in which order it is looked after."""

from __future__ import annotations

import threading
from types import SimpleNamespace
from typing import Any

import pytest

from harness.core.errors import ProbeError
from harness.core.settings import Config
from harness.core.timebase import Deadline
from harness.maintenance import after_resume, correction_queue
from harness.maintenance.after_resume import Care
from harness.maintenance.guest_clock import Mended
from harness.maintenance.pause.outcome import GuestPause


class Group:
    """Probes that know whether they were let go."""

    closed = False

    def close(self) -> None:
        self.closed = True


def test_baselines_taken_anew_let_the_earlier_probes_go(monkeypatch):
    """While a guest is waited for: a second prober beside the first would never end."""
    monkeypatch.setattr(Care, "_probes", lambda self, session, together: Group())
    monkeypatch.setattr(
        Care, "_look_before", lambda self, session, deadline: (session.probes, None)
    )
    monkeypatch.setattr(Care, "_look_last", lambda self, session, deadline: None)
    care = Care(Config(), hypervisor=None, connector=None, journal=None)
    sessions: dict[str, Any] = {"web1": SimpleNamespace(probes=None)}
    first: Any = care.take_baselines(sessions, Deadline.after(5))["web1"].seen
    second: Any = care.take_baselines(sessions, Deadline.after(5))["web1"].seen
    assert (first.closed, second.closed) == (True, False)


@pytest.fixture
def care(monkeypatch):
    """``care(slow="b")``: guests a and b are looked after; what was done, in order."""

    def make(slow: str, patience_s: float) -> list[str]:
        done, gate = [], threading.Event()

        def mend(session, *_, **__):
            if session.name == slow:
                gate.wait(0.5)
            done.append(f"mend {session.name}")
            return Mended(None)

        def look_closer(mended, session, *_, **__):
            done.append(f"look {session.name}")
            gate.set()
            raise ProbeError("enough")

        monkeypatch.setattr(after_resume, "mend", mend)
        monkeypatch.setattr(after_resume, "look_closer", look_closer)
        monkeypatch.setattr(correction_queue, "_TOGETHER_S", patience_s)
        sessions: dict[str, Any] = {name: SimpleNamespace(name=name) for name in "ab"}
        baselines: dict[str, Any] = dict.fromkeys(sessions, SimpleNamespace(clock=None))
        guests = {name: GuestPause(0, 1, 2, 3) for name in sessions}
        window: Any = SimpleNamespace(guests={**guests, "c": GuestPause(0, 1)})
        Care(Config(), None, None, None).look_after(sessions, baselines, window)
        return done

    return make


def test_nobody_is_looked_at_before_every_clock_was_seen_to(care):
    """Looks are work, and the clock of another guest would have to wait for it."""
    done = care(slow="b", patience_s=20)
    assert done[:2] == ["mend a", "mend b"]
    assert sorted(done[2:]) == ["look a", "look b"]


def test_a_guest_that_is_silent_holds_up_the_looks_at_the_others_for_a_few_seconds(care):
    """And then they are looked at without it."""
    assert care(slow="b", patience_s=0.1) == ["mend a", "look a", "mend b", "look b"]
