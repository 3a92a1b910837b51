"""``harness doctor --prove windows GUEST``: does harness do in a real Windows what it should?

A login and ten looks at one guest, told as a report that can be sent to harness's authors. It names
no guest, address, user or key, and no process or event but those that are looked for.
"""

from __future__ import annotations

import platform
import re
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

from harness.api import Backend
from harness.checks.guest_life import parse_windows
from harness.core.errors import HarnessError, ProbeError
from harness.core.records import Outcome
from harness.core.settings import ClockSection, Config, guest_section
from harness.core.timebase import NS_PER_S, Deadline
from harness.guest import kernel_log, windows
from harness.guest.facts import GuestOs, gather
from harness.host import timekeeping
from harness.maintenance.guest_access import Login
from harness.maintenance.guest_clock import second_opinion
from harness.maintenance.session import GuestSession

#: A step that no program in the guest minds, there and back.
_STEP_S = 0.020
#: How far off a step may be where the reading itself is sure to less.
_STEP_ERROR_S = 0.005
_READINGS = 5
#: Of PowerShell's starts, a dozen.
_ALL_S = 180.0
_SHOWN = 300
_KEY = re.compile(r"SHA256:[A-Za-z0-9+/=]+")
_ADDRESS = re.compile(
    r"\b\d{1,3}(?:\.\d{1,3}){3}\b|(?<![\w:])[0-9a-fA-F]*(?::[0-9a-fA-F]*){2,}(?:%\w+)?"
)


class NothingToProve(Exception):
    """The guest, or the way into it, does not have what is to be looked at."""


@dataclass(frozen=True)
class Proof:
    """One of the looks, and what came of it."""

    name: str
    outcome: Outcome
    detail: str


@dataclass(frozen=True)
class _Scene:
    session: GuestSession
    deadline: Deadline

    def in_windows(self, program: str) -> dict[str, str]:
        """Run a program of Windows' and return its ``key=value`` lines. Raises NothingToProve."""
        self.expect_windows()
        said = self.session.shell.run(program, self.deadline).stdout.split("\n")
        return dict(windows.pairs_of(said))

    def expect_windows(self) -> None:
        if self.session.facts.os is not GuestOs.WINDOWS:
            raise NothingToProve("this guest is no Windows")


def prove(login: Login, settings: ClockSection, deadline: Deadline) -> Iterator[Proof]:
    """Look at one guest; yields a proof as soon as it is there, and raises no HarnessError.

    Changes the guest's clock by 20 ms, and back, unless ``settings.correct`` is off.
    """
    try:
        session = GuestSession.open(login, settings, deadline)
    except HarnessError as error:
        yield Proof("login", Outcome.ERROR, masked(error, login.info.name))
        return
    with closing(session):
        scene = _Scene(session, deadline)
        for name, look in _LOOKS.items():
            yield _proof(name, look, scene)


def prove_guest(config: Config, name: str, backend: Backend | None = None) -> Iterator[Proof]:
    """Find the guest of that name and look at it. Raises UnknownGuest, HypervisorError."""
    backend = backend or Backend.real()
    deadline = Deadline.after(_ALL_S, backend.clock)
    with backend.connect(config) as hypervisor:
        info = hypervisor.find(name, deadline)
        section = guest_section(config.guest, info.name, info.uuid)
        login = Login(info, section, config.ssh, hypervisor, backend.connector, config.access)
        yield from prove(login, config.clock, deadline)


def _proof(name: str, look: Callable[[_Scene], str], scene: _Scene) -> Proof:
    try:
        return Proof(name, Outcome.PASS, look(scene))
    except NothingToProve as reason:
        return Proof(name, Outcome.SKIP, str(reason))
    except HarnessError as error:
        return Proof(name, Outcome.FAIL, masked(error, scene.session.name))
    except (ValueError, KeyError, IndexError) as error:
        return Proof(name, Outcome.FAIL, f"its answer is not understood: {error!r}"[:_SHOWN])


def masked(error: HarnessError, guest: str) -> str:
    """Return an error's words for a report: without addresses, keys and the guest's name."""
    hint = f" (hint: {error.hint})" if error.hint else ""
    said = error.message.partition("; tried: ")[0] + hint
    said = _KEY.sub("KEY", _ADDRESS.sub("ADDRESS", said))
    return re.sub(rf"(?<!\w){re.escape(guest)}(?!\w)", "GUEST", said)[:_SHOWN]


def _login(scene: _Scene) -> str:
    shell, facts = scene.session.shell, scene.session.facts
    return f"by {shell.way.access}, in {shell.speaks}; {facts.os}, {facts.kernel}, " + (
        "with all rights" if facts.uid == 0 else "as another user"
    )


def _powershell(scene: _Scene) -> str:
    told = scene.in_windows(windows.POWERSHELL_STATE)
    return f"{told['version']}, {told['mode']}, {told['culture']}, UTC{int(told['zone']):+d} min"


def _description(scene: _Scene) -> str:
    kept = scene.session.info.timekeeping
    owes = "may owe it ticks" if timekeeping.reinjects_ticks(kept) else "owes it no ticks"
    return f"{timekeeping.shown(kept)}; QEMU {owes}; {scene.session.info.accelerator}"


def _boot(scene: _Scene) -> str:
    again = gather(scene.session.shell, scene.deadline)
    if not again.boot_id:
        raise NothingToProve("this way into the guest tells no boot id")
    if again.boot_id != scene.session.facts.boot_id:
        raise ProbeError("its boot id is another one each time that it is asked for")
    bound = scene.session.identity.bound_by or "nothing"
    return f"the same boot id twice; the login is bound to the guest by {bound}"


def _reading(scene: _Scene) -> str:
    readings = [scene.session.sampler.read(8, scene.deadline) for _ in range(_READINGS)]
    offsets = [one.offset_s for one in readings]
    worst = max(one.uncertainty_s for one in readings)
    return (
        f"by {scene.session.sampler.interpreter}: {_ms(offsets[-1])}, ± {_ms(worst)} at worst, "
        f"{_READINGS} readings within {_ms(max(offsets) - min(offsets))}"
    )


def _right(scene: _Scene) -> str:
    scene.session.expect_right(scene.deadline)
    return "its clock may be set"


def _step(scene: _Scene) -> str:
    session = scene.session
    if not session.settings.correct:
        raise NothingToProve("its clock is to be left alone (--no-correct)")
    if not session.sampler.can_step:
        raise NothingToProve(f"{session.sampler.interpreter} cannot step a clock")
    errors = []
    for by_s in (_STEP_S, -_STEP_S):
        before = session.sampler.read(8, scene.deadline)
        session.sampler.step(round(by_s * NS_PER_S), scene.deadline)
        after = session.sampler.read(8, scene.deadline)
        error_s = after.offset_s - before.offset_s - by_s
        if abs(error_s) - before.uncertainty_s - after.uncertainty_s > _STEP_ERROR_S:
            raise ProbeError(f"a step of {_ms(by_s)} was off by {_ms(error_s)}")
        errors.append(error_s)
    return f"20 ms there and back: off by {_ms(errors[0])} and {_ms(errors[1])}"


def _agent(scene: _Scene) -> str:
    reading, _ = second_opinion(scene.session, scene.deadline)
    if reading is None:
        raise NothingToProve("no guest agent answers beside the way in, or none may tell the time")
    return f"the guest agent tells {_ms(reading.offset_s)}, ± {_ms(reading.uncertainty_s)}"


def _events(scene: _Scene) -> str:
    shell, facts = scene.session.shell, scene.session.facts
    log = kernel_log.mark(shell, facts, scene.deadline)
    if log.marker is None:
        raise NothingToProve("this user may not read the log")
    boot_id, seen = kernel_log.look_again(shell, log, scene.deadline)
    if boot_id != facts.boot_id or seen is None:
        raise ProbeError("the log cannot be read from a marker on")
    gap = "; lines are lost" if seen.has_gap else ""
    return f"{len(seen.new_lines)} new since the marker, {len(seen.stalls)} of trouble{gap}"


def _life(scene: _Scene) -> str:
    scene.expect_windows()
    look = parse_windows(scene.session.shell.run(windows.LIFE, scene.deadline).stdout)
    first = "seen" if look.sees_all else "not seen"
    tcp = "not told" if look.connections is None else len(look.connections)
    return (
        f"{len(look.processes)} processes (System {first}), {len(look.mounts)} volumes, "
        f"connections: {tcp}"
    )


def _time_service(scene: _Scene) -> str:
    told = scene.in_windows(windows.TIME_SERVICE)
    return f"W32Time is {told['service']}; it names a source: {'yes' if told['source'] else 'no'}"


_LOOKS: dict[str, Callable[[_Scene], str]] = {
    "login": _login,
    "PowerShell": _powershell,
    "description": _description,
    "boot": _boot,
    "clock read": _reading,
    "right to set it": _right,
    "clock stepped": _step,
    "guest agent": _agent,
    "event log": _events,
    "what lives there": _life,
    "time service": _time_service,
}


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.3f} ms"


def header() -> str:
    """Return the report's first line."""
    try:
        ours = version("harness-kvm")
    except PackageNotFoundError:
        ours = "from a checkout"
    return f"harness {ours} on Linux {platform.release()}, Python {platform.python_version()}"
