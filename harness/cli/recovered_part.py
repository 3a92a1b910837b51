"""A rollout's part whose run died and was recovered: its answer, and what other hosts wait for."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing

from harness.core.errors import HarnessError
from harness.core.settings import Config
from harness.fleet.followed import followed
from harness.maintenance.recovery.record import RunRecovery
from harness.results.answer import Answer
from harness.results.folder import RunFolder
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


def release_fleet(recovery: RunRecovery, tell: Callable[[str], object]) -> None:
    """Report a recovered run to the fleet; release what other hosts wait for. Never raises ours.

    That is its leases and its events, where no guest of it is held any more.
    """
    config = recovery.folder.config_as_understood()[0]
    answer = answer_of(recovery.folder)
    if answer is not None:
        followed(config, answer.rollout, tell).ended(answer)
    if recovery.error is not None or recovery.stranded:
        return
    for release in (_leases, _events):
        try:
            release(recovery.folder, config)
        except HarnessError as error:
            tell(f"run {recovery.folder.run_id} is recovered, and other hosts wait: {error}")


def _leases(folder: RunFolder, config: Config) -> None:
    if config.fleet.database is None:
        return
    from harness.fleet.database import FleetDatabase
    from harness.fleet.leases import release_all

    release_all(FleetDatabase(config.fleet.database), folder.run_id)


def _events(folder: RunFolder, config: Config) -> None:
    """Remove its events where other hosts show them; a store of this host's is its server's."""
    from harness.events.shared import SharedStore

    shared = SharedStore.of(config.events, config.fleet)
    if shared is None:
        return
    from harness.events.scheduler import clear_dead
    from harness.events.store import Store

    state_dir = folder.path.parent.parent
    with closing(Store(state_dir, shared=shared)) as store:
        clear_dead(store, state_dir)
