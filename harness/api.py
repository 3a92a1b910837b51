"""The one way in for programs: plan, maintain, recover, clocks, and host keys to trust.

Nothing here prints, and nothing ends the process. Durations are float seconds (``_s``), points in
time integer nanoseconds since 1970 (``_ns``), offsets guest − host in seconds: negative is slow.
Outcomes are values; exceptions are leaves of :class:`harness.core.errors.HarnessError`, whose
``exit_code`` is that of the command line. One call at a time in one process; any thread, but only
the main thread's calls notice signals. ``docs/reference/api.md`` has examples.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.core import paths
from harness.core.closing import result_of
from harness.core.config import Loaded, load
from harness.core.errors import ConfigError, HarnessError, UsageError
from harness.core.settings import Config
from harness.core.timebase import SYSTEM_CLOCK, Clock, Deadline
from harness.guest.protocol import Connector
from harness.host.protocol import Hypervisor
from harness.maintenance.pause.guard import GuardianProcess
from harness.maintenance.plan import Plan
from harness.maintenance.progress import Observer, silent
from harness.updates.protocol import HostUpdate
from harness.updates.registry import FULL_CONFIG

if TYPE_CHECKING:  # `harness plan` should not have to load what only a run needs
    from harness.maintenance.clocks import ClockReport
    from harness.maintenance.find_login import FoundLogin
    from harness.maintenance.host_keys import GuestKeys
    from harness.maintenance.recovery.clock import LogIn
    from harness.maintenance.recovery.round import Recovery, RunSettings
    from harness.maintenance.run import Finished, Guarding, Part
    from harness.results.folder import RunFolder

__all__ = [
    "Backend",
    "Planned",
    "correct_clocks",
    "find_logins",
    "host_keys",
    "load_config",
    "maintain",
    "plan",
    "read_clocks",
    "recover",
    "trust",
]


@dataclass(frozen=True)
class Backend:
    """How the host and its guests are reached; tests hand fakes in (``harness.testing``)."""

    connect: Callable[[Config], AbstractContextManager[Hypervisor]]
    """Opens a connection to the hypervisor for the time of a ``with``; raises HarnessError."""
    connector: Connector
    """Opens the guests' shells."""
    clock: Clock = SYSTEM_CLOCK
    guardian: Guarding = GuardianProcess
    """Starts the second process, which resumes guests if this one dies."""

    @classmethod
    def real(cls) -> Backend:
        """Return libvirt at the configuration's URI, guests by SSH, and this machine's clock."""
        from harness.guest.connector import SshConnector

        return cls(_libvirt, SshConnector())


@contextmanager
def _libvirt(config: Config) -> Iterator[Hypervisor]:
    from harness.host.driver import LibvirtHypervisor

    hypervisor = LibvirtHypervisor.open(config.uri, Deadline.after(config.prepare_timeout_s))
    try:
        yield hypervisor
    finally:
        hypervisor.close()


@dataclass(frozen=True)
class Planned:
    """What ``plan`` returns."""

    plan: Plan
    """Update domains in the order in which they would be done, and warnings."""
    update: HostUpdate
    """The update that would be applied, with its scope and expected duration; several are one."""
    later: tuple[Planned, ...] = ()
    """The windows after this one, where the updates take several; each is planned anew when the
    one before it is over."""


@contextmanager
def _unobserved(plan: Plan) -> Iterator[Observer]:
    yield silent


def load_config(
    file: Path | None = None,
    settings: Mapping[str, Any] | None = None,
    *,
    environment: Mapping[str, str] | None = None,
    typed: Mapping[str, str] | None = None,
    tell: Callable[[str], object] = lambda line: None,
) -> Loaded:
    """Return the configuration in force, found and laid over as the command line does it.

    Args:
        file: The configuration file; None: ``./harness.toml``, else the user's, else the
            system's, else that of a lab that is up, else defaults only.
        settings: Dotted keys of harness.toml that go before everything else; None values are
            left out. ``{"budget_s": 10.0, "clock.correct": False}``
        environment: ``HARNESS_…`` variables, laid between ``file`` and ``settings``; None: those
            of this process.
        typed: For each key of ``settings`` what a person typed to set it, such as ``--budget``;
            errors and origins name it.
        tell: Called with one line if the configuration is that of a lab.

    Raises:
        ConfigError: It cannot be read, or a value in it is not valid.
    """
    found = file or next((path for path in paths.config_files() if _is_there(path)), None)
    if found is None:
        from harness.lab.state import lab_config_file  # loads libvirt

        found = lab_config_file()
        if found is not None:
            tell(f"using the configuration of the lab that is up: {found}")
    known = os.environ if environment is None else environment
    return load(found, environment=known, flags=settings or {}, model=FULL_CONFIG, typed=typed)


def _is_there(path: Path) -> bool:
    """Raises ConfigError where we may not look: what is there may be what matters."""
    try:
        return path.is_file()
    except OSError as error:
        message = f"cannot be looked for: {error.strerror}"
        raise ConfigError(message, file=path, hint="name the file to use: -c FILE") from error


def plan(
    config: Config,
    guests: Sequence[str] = (),
    *,
    state_dir: Path | None = None,
    backend: Backend | None = None,
) -> Planned:
    """Return the update domains of a maintenance and their order; changes nothing.

    Args:
        config: As ``load_config(...).config``.
        guests: libvirt names or UUIDs, or patterns for those that are up (``web*``); one that
            begins with ``!`` leaves guests out. None: the guests of the configuration.
        state_dir: Where earlier runs are, from whose durations an update's is expected; None:
            that of the command line.
        backend: None: libvirt and SSH.

    Raises:
        UsageError: What is asked for cannot be done safely, or makes no sense (ConfigError,
            PlanError, …).
        HypervisorError: The hypervisor does not answer, a guest is not there or not running.
    """
    from harness.maintenance.earlier_clocks import foresee_clocks

    backend = backend or Backend.real()
    state_dir = state_dir or paths.state_dir()
    first, *others = _windows(config, state_dir)
    with _surveyed(first, guests, state_dir, backend) as (planned, _):
        found = planned.plan
        far = foresee_clocks(found.guests, state_dir, config.clock.tolerance_s)
        return replace(
            planned,
            plan=replace(found, warnings=(*found.warnings, *far)),
            later=_foreseen(first, others, guests, state_dir, backend),
        )


def _windows(config: Config, state_dir: Path) -> list[Config]:
    """Return a configuration for each window that the updates take."""
    from harness.updates.configured import windows

    return [config.only(window) for window in windows(config.updates, config.uri, state_dir)]


def _foreseen(
    first: Config,
    others: Sequence[Config],
    guests: Sequence[str],
    state_dir: Path,
    backend: Backend,
) -> tuple[Planned, ...]:
    """Plan the windows after the first, as far as can be told before that one."""
    found = []
    follows = tuple(one.kind for one in first.updates)
    for window in others:
        with _surveyed(window, guests, state_dir, backend, follows) as (planned, _):
            found.append(planned)
        follows += tuple(one.kind for one in window.updates)
    return tuple(found)


@contextmanager
def _surveyed(
    config: Config,
    guests: Sequence[str],
    state_dir: Path,
    backend: Backend,
    follows: tuple[str, ...] = (),
) -> Iterator[tuple[Planned, Hypervisor]]:
    from harness.maintenance.survey import survey
    from harness.updates.configured import make_update

    update = make_update(config.updates, config.uri, state_dir, follows)
    with backend.connect(config) as hypervisor:
        found = survey(config, guests, hypervisor, update, backend.clock)
        yield Planned(found, update), hypervisor


def maintain(
    config: Config,
    guests: Sequence[str] = (),
    *,
    state_dir: Path | None = None,
    config_file: Path | None = None,
    not_before_ns: int = 0,
    label: str = "run",
    part: Part | None = None,
    observe: Callable[[Plan], AbstractContextManager[Observer]] = _unobserved,
    between: Callable[[Finished], object] = lambda finished: None,
    backend: Backend | None = None,
) -> Finished:
    """Carry out one maintenance: pause, update the host, resume, correct clocks, check.

    Several updates may take several windows: each is a run of its own, planned when the one before
    it has passed. After one that has not, the others are left alone.

    Args:
        config: As ``load_config(...).config``.
        guests: libvirt names or UUIDs, or patterns for those that are up (``web*``); one that
            begins with ``!`` leaves guests out. None: the guests of the configuration.
        state_dir: Where the run folder is made; None: that of the command line.
        config_file: For the process that tells guests beforehand, where one is configured.
        not_before_ns: Earliest pause, nanoseconds since 1970; counts only with a notice.
        label: How the run came about, for the history.
        part: The rollout that it is a part of, which is told of each run before it begins.
        observe: Called with the plan before anything is touched; its context manager gives an
            observer, called with a step each, never while guests are paused; for each window.
        between: Called with each window's run that passed, before the next window is planned.
        backend: None: libvirt and SSH.

    Returns:
        The record (``run.json``), the run folder, and the HarnessError that ended the run early,
        None if none did; GuestStranded there means that a guest is still paused. A broken promise
        is an outcome in the record, no error. Of several windows, those of the last one that was
        held; ``follows`` in its record names the run before.

    Raises:
        HarnessError: What fails before there is a run; no guest was paused. Of a window after the
            first: ``between`` was called with those before it, whose updates stay.
    """
    backend = backend or Backend.real()
    state_dir = state_dir or paths.state_dir()
    first, *others = _windows(config, state_dir)
    _foreseen(first, others, guests, state_dir, backend)  # refused before anything is changed
    hold = partial(
        _maintain,
        guests=guests,
        state_dir=state_dir,
        config_file=config_file,
        not_before_ns=not_before_ns,
        label=label,
        observe=observe,
        backend=backend,
    )

    def with_left(left: int) -> Part | None:
        return replace(part, left=left) if part is not None else None

    finished = hold(first, part=with_left(len(others)))
    for number, window in enumerate(others, 1):
        if finished.record.exit_code != 0:
            break
        between(finished)
        left = with_left(len(others) - number)
        finished = hold(window, follows=finished.record.run_id, part=left)
    return finished


def _maintain(
    config: Config,
    *,
    guests: Sequence[str],
    state_dir: Path,
    config_file: Path | None,
    not_before_ns: int,
    label: str,
    observe: Callable[[Plan], AbstractContextManager[Observer]],
    backend: Backend,
    follows: str | None = None,
    part: Part | None = None,
) -> Finished:
    """Hold one window."""
    from harness.events.announcement import announcement
    from harness.maintenance.run import run

    def carried_out(stack: ExitStack) -> Finished:
        surveyed = _surveyed(config, guests, state_dir, backend)
        planned, hypervisor = stack.enter_context(surveyed)
        observer = stack.enter_context(observe(planned.plan))
        told = announcement(
            config,
            planned.update,
            hypervisor,
            state_dir=state_dir,
            config_file=config_file,
            not_before_ns=not_before_ns,
        )
        return run(
            config,
            planned.plan,
            planned.update,
            hypervisor,
            backend.connector,
            state_dir=state_dir,
            observer=observer,
            notice=stack.enter_context(told),
            label=label,
            follows=follows,
            part=part,
            clock=backend.clock,
            guardian=backend.guardian,
        )

    return result_of(carried_out)  # the exit code is the record's, whatever closing brings


def recover(
    state_dir: Path | None = None,
    *,
    config_file: Path | None = None,
    uri: str | None = None,
    dry_run: bool = False,
    backend: Backend | None = None,
) -> Recovery:
    """Finish every dead run: resume what it left paused, correct clocks, complete its record.

    Safe to call at any time, and again. Only guests that a run's own journal says it paused are
    resumed, and only where nothing that can be seen speaks against it. All guests are resumed
    before the first clock is corrected; a signal ends it after that.

    Args:
        state_dir: Where the run folders are; None: that of the command line, and every other that
            is known on this machine.
        config_file: Used instead of the configuration in each run folder.
        uri: libvirt connection, used instead of that in the configuration.
        dry_run: Only say what would be done.
        backend: None: libvirt and SSH.

    Returns:
        What became of each dead run, guest by guest, which other guests are paused, and what was
        looked at to say so. Nothing is raised for a run: one that cannot be finished keeps no
        guest from the others.

    Raises:
        ConfigError: ``config_file`` cannot be read.
    """
    from harness.host.lock import noted_state_dirs
    from harness.maintenance.recovery.round import recover_all

    backend = backend or Backend.real()
    given = load_config(config_file).config if config_file else None

    @cache
    def in_force() -> tuple[Config, tuple[str, ...]]:  # not before guests of dead runs were resumed
        return _found_config(given)

    def others() -> list[Path]:
        if state_dir is not None:
            return []
        known = [*paths.known_state_dirs(), *noted_state_dirs(uri or in_force()[0].uri)]
        return [path for path in known if path != paths.state_dir()]

    def look_at() -> tuple[str, Callable[[], AbstractContextManager[Hypervisor]]]:
        config, where = in_force()[0], uri or in_force()[0].uri
        return where, partial(_connect, backend, config, where)

    recovery = recover_all(
        state_dir or paths.state_dir(),
        others,
        partial(_run_settings, given=given, uri=uri, backend=backend),
        look_at,
        dry_run=dry_run,
        clock=backend.clock,
    )
    return replace(recovery, notes=(*in_force()[1], *recovery.notes))


def _found_config(given: Config | None) -> tuple[Config, tuple[str, ...]]:
    """Return the configuration in force; the defaults, and why, if it cannot be read."""
    try:
        return given or load_config().config, ()
    except HarnessError as error:
        return Config(), (f"{error}; guests of {Config().uri} were looked at",)


def _connect(backend: Backend, config: Config, uri: str) -> AbstractContextManager[Hypervisor]:
    return backend.connect(config.model_copy(update={"uri": uri}))


def _run_settings(
    folder: RunFolder, *, given: Config | None, uri: str | None, backend: Backend
) -> RunSettings:
    """Return what recovering a run takes; what its folder does not tell has its default."""
    from harness.maintenance.login import Login
    from harness.maintenance.recovery.round import RunSettings
    from harness.maintenance.session import GuestSession
    from harness.results.journal import FILE_NAME, fold, read

    config, notes = (given, ()) if given else folder.config_as_understood()
    if uri is None and notes:
        started = fold(read(folder.path / FILE_NAME)).started
        uri = started.uri if started is not None and started.uri else None
    where = uri or config.uri

    def log_in(hypervisor: Hypervisor) -> LogIn:
        def open_session(uuid: str, deadline: Deadline) -> GuestSession:
            info = hypervisor.find(uuid, deadline)
            section = config.for_guest(info.name, info.uuid)
            login = Login(info, section, config.ssh, hypervisor, backend.connector, config.access)
            return GuestSession.open(login, config.clock, deadline)

        return open_session

    return RunSettings(
        uri=where,
        connect=partial(_connect, backend, config, where),
        patience_s=config.resume_patience_s,
        clocks_s=config.mend_timeout_s + config.clock.watch_s,
        log_in=log_in,
        notes=notes,
    )


def read_clocks(
    config: Config, guests: Sequence[str] = (), *, backend: Backend | None = None
) -> tuple[ClockReport, ...]:
    """Measure the clocks of running guests against the host's; no guest is paused.

    Args:
        config: ``clock.*`` says how many samples, which tolerance, and how long to watch.
        guests: libvirt names or UUIDs, or patterns for those that are up (``web*``); one that
            begins with ``!`` leaves guests out. None: the guests of the configuration.
        backend: None: libvirt and SSH.

    Returns:
        One outcome a guest, in that order; ERROR with ``problem`` for one that cannot be read.

    Raises:
        HypervisorError: The hypervisor does not answer, or a guest is not there.
    """
    return _clocks(config, guests, backend, correct=False)


def correct_clocks(
    config: Config, guests: Sequence[str] = (), *, backend: Backend | None = None
) -> tuple[ClockReport, ...]:
    """Set the clocks of running guests to the host's and measure again; no guest is paused.

    As ``read_clocks``; a clock is corrected only by ``clock.methods``, and set back only with
    ``clock.allow_backward``.
    """
    return _clocks(config, guests, backend, correct=True)


def _clocks(
    config: Config, guests: Sequence[str], backend: Backend | None, *, correct: bool
) -> tuple[ClockReport, ...]:
    from harness.maintenance.clocks import settle_clocks
    from harness.maintenance.named import wanted

    backend = backend or Backend.real()
    names = wanted(guests, [guest.name for guest in config.guest])
    limit_s = config.prepare_timeout_s + config.clock.watch_s
    with backend.connect(config) as hypervisor:
        return settle_clocks(
            names,
            hypervisor,
            backend.connector,
            Deadline.after(limit_s, backend.clock),
            guests=config.guest,
            ssh=config.ssh,
            access=config.access,
            settings=config.clock,
            correct=correct,
        )


def host_keys(
    config: Config, guests: Sequence[str] = (), *, backend: Backend | None = None
) -> tuple[GuestKeys, ...]:
    """Ask guests for their SSH host keys; changes nothing, and logs in to no unknown host.

    Args:
        config: ``[[guest]]`` and ``[ssh]`` say how guests are reached.
        guests: libvirt names or UUIDs; none: the guests of the configuration, else all that run.
        backend: None: libvirt and SSH.

    Returns:
        One answer a guest, in that order: its keys with their fingerprints and whether they are
        known, or the error: HostKeyRejected for a key that has changed.

    Raises:
        HypervisorError: The hypervisor does not answer, or a guest is not there.
    """
    from harness.maintenance.host_keys import look_at_keys
    from harness.maintenance.named import chosen

    backend = backend or Backend.real()
    deadline = Deadline.after(config.prepare_timeout_s, backend.clock)
    with backend.connect(config) as hypervisor:
        known = hypervisor.guests(deadline)
        infos = chosen(known, guests, [one.name for one in config.guest], hypervisor.uri)
        return look_at_keys(
            infos, hypervisor, backend.connector, deadline, guests=config.guest, ssh=config.ssh
        )


def trust(keys: GuestKeys, *, backend: Backend | None = None) -> None:
    """Add host keys that ``host_keys`` returned to known_hosts; a person has confirmed them.

    Args:
        keys: Those of one guest, or of the jump host before it, that are not known yet.
        backend: None: libvirt and SSH.

    Raises:
        UsageError: They are known already, have changed, or were not shown.
        InfrastructureError: The file of known hosts cannot be written.
    """
    if keys.shown is None or keys.shown.known:
        raise UsageError("there is no unknown host key to trust", guest=keys.info.name)
    (backend or Backend.real()).connector.trust(keys.shown)


def find_logins(
    config: Config,
    guests: Sequence[str] = (),
    *,
    users: Sequence[str] = (),
    backend: Backend | None = None,
) -> tuple[FoundLogin, ...]:
    """Find a login for each guest that works, and may set its clock; changes nothing.

    Args:
        config: ``uri``, ``prepare_timeout_s`` and ``[clock]`` count.
        guests: libvirt names or UUIDs; none: all that run.
        users: Tried first; then the user of the SSH configuration, and a few likely ones.
        backend: None: libvirt and SSH.

    Returns:
        One answer a guest, in that order, with its address and user, or the error.

    Raises:
        HypervisorError: The hypervisor does not answer, or a guest is not there.
    """
    from harness.maintenance.find_login import find_logins as find
    from harness.maintenance.named import chosen

    backend = backend or Backend.real()
    deadline = Deadline.after(config.prepare_timeout_s, backend.clock)
    with backend.connect(config) as hypervisor:
        infos = chosen(hypervisor.guests(deadline), guests, (), hypervisor.uri)
        connector = backend.connector
        return find(infos, hypervisor, connector, deadline, users=users, settings=config.clock)
