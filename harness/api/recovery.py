"""Finish what dead runs left behind, each with the configuration that its folder tells."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING

from harness.api.backend import Backend
from harness.api.configuration import load_config
from harness.core import paths
from harness.core.errors import HarnessError
from harness.core.settings import Config
from harness.core.timebase import Deadline
from harness.host.protocol import Hypervisor

if TYPE_CHECKING:
    from harness.maintenance.recovery.clock import LogIn
    from harness.maintenance.recovery.round import Recovery, RunSettings
    from harness.maintenance.session import GuestSession
    from harness.results.folder import RunFolder


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
    from harness.maintenance.guest_access import Login
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
