"""What waits for a run that died and was recovered: its rollout, other hosts, guests' events."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing

from harness.core.errors import HarnessError
from harness.core.settings import Config
from harness.core.timebase import NS_PER_S
from harness.fleet.followed import followed
from harness.maintenance.recovery.record import RunRecovery
from harness.results.answer import Answer
from harness.results.folder import RunFolder
from harness.results.journal import FILE_NAME, entries, read
from harness.results.rollout import RolloutFolder


def answer_of(folder: RunFolder) -> Answer | None:
    """Return what the rollout that a run is a part of comes to by now; None if there is none."""
    try:
        rollout = folder.record().rollout
        if rollout is None:
            return None
        return RolloutFolder(folder.path.parent.parent, rollout).answer()
    except HarnessError:
        return None


def release(recovery: RunRecovery, tell: Callable[[str], object]) -> None:
    """Report a recovered run to the fleet; release its leases and events. Never raises ours.

    Other hosts and its guests wait for them. They go where no guest of it is held any more.
    """
    config = recovery.folder.config_as_understood()[0]
    answer = answer_of(recovery.folder)
    if answer is not None:
        followed(config, answer.rollout, tell).ended(answer)
    if recovery.error is not None or recovery.stranded:
        return
    for let_go in (_leases, _events):
        try:
            let_go(recovery.folder, config)
        except HarnessError as error:
            run = recovery.folder.run_id
            tell(f"run {run} is recovered, but guests or other hosts may still wait: {error}")


def _leases(folder: RunFolder, config: Config) -> None:
    if config.fleet.database is None:
        return
    from harness.fleet.database import FleetDatabase
    from harness.fleet.leases import release_all

    release_all(FleetDatabase(config.fleet.database), folder.run_id)


def _events(folder: RunFolder, config: Config) -> None:
    """Remove its events, and keep in its record how guests were notified by them."""
    from harness.events.shared import SharedStore

    announced = _announced(folder)
    shared = SharedStore.of(config.events, config.fleet)
    if shared is None and not announced:
        return
    from harness.events.announcer import notice_record
    from harness.events.scheduler import clear_dead
    from harness.events.store import Store

    state_dir = folder.path.parent.parent
    record = folder.record()
    began_ns = round(record.started_at.timestamp() * NS_PER_S)
    with closing(Store(state_dir, shared=shared)) as store:
        clear_dead(store, state_dir)
        domains = tuple(
            one.model_copy(update={"notice": notice_record(store, announced[one.name], began_ns)})
            if one.name in announced
            else one
            for one in record.update_domains
        )
    folder.write_record(record.model_copy(update={"update_domains": domains}))


def _announced(folder: RunFolder) -> dict[str, tuple[str, ...]]:
    """The events of each update domain, by the run's journal."""
    lines = read(folder.path / FILE_NAME).lines
    return {
        line.entry.domain: line.entry.events
        for line in lines
        if isinstance(line.entry, entries.Announced)
    }
