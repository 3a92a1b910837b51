"""What is started for a guest before its pause."""

from __future__ import annotations

from types import SimpleNamespace

from harness.aftercare import Care
from harness.settings import Config
from harness.timebase import Deadline


class Group:
    """Witnesses that know whether they were let go."""

    closed = False

    def close(self) -> None:
        self.closed = True


def test_baselines_taken_anew_let_the_earlier_witnesses_go(monkeypatch):
    """While a guest is waited for: a second prober beside the first would never end."""
    monkeypatch.setattr(Care, "_witnesses", lambda self, session, together: Group())
    monkeypatch.setattr(Care, "_look_before", lambda self, session, deadline: session.witnesses)
    care = Care(Config(), hypervisor=None, journal=None)
    sessions = {"web1": SimpleNamespace(witnesses=None)}
    first = care.take_baselines(sessions, Deadline.after(5))["web1"]
    second = care.take_baselines(sessions, Deadline.after(5))["web1"]
    assert (first.closed, second.closed) == (True, False)
