"""A hypervisor in memory; passes the contract suite, and can be told to misbehave."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.core.errors import AgentSilent, GuestNotFound, HypervisorError, WrongState
from harness.core.nearest import did_you_mean
from harness.core.records import HostRecord
from harness.core.timebase import SYSTEM_CLOCK, Clock, Deadline
from harness.host.lifecycle import ENDED, GuestState, StateReading
from harness.host.protocol import (
    AgentFacts,
    Call,
    EventKind,
    GuestAddress,
    GuestInfo,
    LifecycleEvent,
    ProcessIdentity,
    Timekeeping,
)
from harness.testing.parking import FakeParking

#: Of a guest whose process was not named.
_SOME_PROCESS = ProcessIdentity(1, 1)


class FakeHypervisor:
    """Guests by name; a guest's uuid is ``uuid-NAME``.

    ``before[("pause", name)]`` is called before that operation and may raise, wait or meddle
    (``("guests", "")`` before all are listed);
    ``calls`` lists ``(operation, name)`` in the order in which they took effect.
    """

    uri = "fake:///"

    def __init__(self, states: dict[str, GuestState], clock: Clock = SYSTEM_CLOCK) -> None:
        self.states = dict(states)
        self.clock = clock
        self.calls: list[tuple[str, str]] = []
        self.timekeeping: dict[str, Timekeeping] = {}
        self.most_ready = 0
        self.before: dict[tuple[str, str], Callable[[], None]] = {}
        self.processes: dict[str, ProcessIdentity] = {}
        self.vcpu_ns: dict[int, int] | None = None
        """CPU time of its vCPUs by pid; None: it cannot be seen."""
        self.main_thread_ns: dict[int, int] = {}
        """CPU time of the thread that QEMU starts in, by pid."""
        self.living: set[ProcessIdentity] = set()
        """Processes that live, beside those of guests that are known and have not ended."""
        self.restorations: set[ProcessIdentity] = set()
        """Processes that took over a guest that was saved to disk."""
        self.reasons: dict[str, str] = {}
        """Why a guest is in its state, as libvirt says it; ``user`` where it is not here."""
        self.hides_processes = False
        """QEMU's processes cannot be looked at any more."""
        self._events: dict[str, list[LifecycleEvent]] = defaultdict(list)
        self.listening_since_ns = 0
        """CLOCK_MONOTONIC since when events are listened for."""
        self.parking = FakeParking(self)

    def enter(self, operation: str, uuid: str) -> str:
        """Note a call, after what ``before`` has for it; return the guest's name."""
        return self._enter(operation, uuid)

    def become(self, name: str, state: GuestState, kind: EventKind) -> None:
        """Change a guest's state, and tell the listeners."""
        self._become(name, state, kind)

    def _enter(self, operation: str, uuid: str) -> str:
        name = uuid.removeprefix("uuid-")
        self.before.get((operation, name), lambda: None)()
        self.calls.append((operation, name))
        return name

    def _become(self, name: str, state: GuestState, kind: EventKind) -> None:
        self.states[name] = state
        event = LifecycleEvent(f"uuid-{name}", kind, "0", self.clock.monotonic_ns())
        self._events[name].append(event)

    def ready(self, calls: int, deadline: Deadline) -> None:
        """See :class:`harness.host.protocol.Hypervisor`; remembers the most it was asked for."""
        self.most_ready = max(self.most_ready, calls)

    def host(self, deadline: Deadline) -> HostRecord:
        return HostRecord(
            hostname="fake", kernel="1", libvirt="0", hypervisor="fake", cpu="c", accelerator="test"
        )

    def guests(self, deadline: Deadline) -> list[GuestInfo]:
        self.before.get(("guests", ""), lambda: None)()
        return [self._info(name) for name in sorted(self.states)]

    def _info(self, name: str) -> GuestInfo:
        return GuestInfo(
            name=name,
            uuid=f"uuid-{name}",
            state=self._reading(name),
            accelerator="test",
            rtc_track="wall",
            timekeeping=self.timekeeping.get(name),
            memory_bytes=1 << 27,
            vcpus=1,
        )

    def find(self, name_or_uuid: str, deadline: Deadline) -> GuestInfo:
        name = name_or_uuid.removeprefix("uuid-")
        if name not in self.states:
            hint = did_you_mean(name, self.states)
            raise GuestNotFound("no such guest", operation="looking up", guest=name, hint=hint)
        return self._info(name)

    def state(self, uuid: str, deadline: Deadline) -> StateReading:
        name = self._enter("state", uuid)
        return self._reading(name)

    def _reading(self, name: str) -> StateReading:
        return StateReading(self.states.get(name, GuestState.GONE), self.reasons.get(name, "user"))

    def about_to_pause(self, uuids: Sequence[str], deadline: Deadline) -> None:
        self.before.get(("look", ""), lambda: None)()

    def pause(self, uuid: str, deadline: Deadline) -> Call:
        name = self._enter("pause", uuid)
        began_ns = self.clock.monotonic_ns()
        state = self.states.get(name, GuestState.GONE)
        if state is not GuestState.RUNNING:
            raise WrongState(f"is {state}, not running", operation="pausing", guest=name)
        self._become(name, GuestState.PAUSED, EventKind.SUSPENDED)
        return Call(began_ns, self.clock.monotonic_ns())

    def resume(self, uuid: str, deadline: Deadline) -> Call | None:
        name = self._enter("resume", uuid)
        began_ns = self.clock.monotonic_ns()
        state = self.states.get(name, GuestState.GONE)
        if state is GuestState.RUNNING:
            return None
        if state in ENDED or state is not GuestState.PAUSED:
            raise WrongState(f"is {state}", operation="resuming", guest=name)
        self._become(name, GuestState.RUNNING, EventKind.RESUMED)
        return Call(began_ns, self.clock.monotonic_ns())

    def process(self, uuid: str, deadline: Deadline) -> ProcessIdentity | None:
        if self.hides_processes:
            return None
        return self.processes.get(uuid.removeprefix("uuid-"), _SOME_PROCESS)

    def has_ended(self, process: ProcessIdentity) -> bool:
        known = {_SOME_PROCESS, *self.processes.values()}
        return not self.hides_processes and process not in known

    def vcpu_time_ns(self, process: ProcessIdentity) -> int | None:
        return None if self.vcpu_ns is None else self.vcpu_ns[process.pid]

    def main_thread_time_ns(self, process: ProcessIdentity) -> int | None:
        return self.main_thread_ns.get(process.pid)

    def lives(self, process: ProcessIdentity) -> bool:
        here = (name for name, one in self.processes.items() if one == process)
        known = any(self.states.get(name, GuestState.GONE) not in ENDED for name in here)
        return known or process in self.living

    def restored(self, process: ProcessIdentity) -> bool:
        return process in self.restorations

    def monitor(self, process: ProcessIdentity) -> Path | None:
        return Path(f"/monitors/{process.pid}") if process in self.living else None

    def addresses(self, uuid: str, deadline: Deadline) -> Sequence[GuestAddress]:
        return []

    def leases(self, deadline: Deadline) -> dict[str, str]:
        return {}

    def guest_time_ns(self, uuid: str, deadline: Deadline) -> int:
        raise HypervisorError("no guest agent", operation="asking", guest=uuid)

    def set_guest_time(self, uuid: str, realtime_ns: int, deadline: Deadline) -> None:
        raise HypervisorError("no guest agent", operation="setting", guest=uuid)

    def agent_facts(self, uuid: str, deadline: Deadline) -> AgentFacts:
        raise HypervisorError("no guest agent", operation="asking", guest=uuid)

    def ask_agent(
        self, uuid: str, command: str, deadline: Deadline, arguments: Mapping[str, Any] | None
    ) -> Any:
        raise AgentSilent("no guest agent", operation="asking", guest=uuid)

    def events(self, uuid: str) -> list[LifecycleEvent]:
        return list(self._events[uuid.removeprefix("uuid-")])

    def missed_events(self, since_ns: int) -> bool:
        """See :class:`harness.host.protocol.Hypervisor`."""
        return self.listening_since_ns > since_ns

    def close(self) -> None:
        pass


def pause_failure(name: str) -> Callable[[], None]:
    """A ``before`` hook: this pause fails and the guest goes on running."""

    def fail() -> None:
        raise HypervisorError("cannot be paused", operation="pausing", guest=name)

    return fail
