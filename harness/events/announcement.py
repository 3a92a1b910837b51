"""How the guests of one maintenance are notified, where they are to be."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from harness.core.extras import require
from harness.core.settings import Config
from harness.core.timebase import Deadline
from harness.host.protocol import Hypervisor
from harness.maintenance.notice import Notice
from harness.updates.protocol import HostUpdate, LeavesThisKernel

_ENDS = (
    "the events server that this run starts ends with its kernel: a guest that waits for the end "
    "of its event is not answered (hint: systemctl enable --now harness-events)"
)


def foresee_end(notice_s: float | None, update: HostUpdate, state_dir: Path) -> tuple[str, ...]:
    """Return as warnings where guests will not see that their event has ended.

    ``notice_s``: from the announcement to the pause; None: there is none.
    """
    if notice_s is None or not isinstance(update, LeavesThisKernel):
        return ()
    require("events", "telling guests of a pause")
    from harness.events.server import is_served

    return () if is_served(state_dir) else (_ENDS,)


@contextmanager
def announcement(
    config: Config,
    update: HostUpdate,
    hypervisor: Hypervisor,
    *,
    state_dir: Path,
    config_file: Path | None = None,
    not_before_ns: int = 0,
) -> Iterator[Notice | None]:
    """How guests are notified, with a server that answers them; None if they are not to be.

    ``config_file`` is for the server, ``not_before_ns`` the earliest pause in ns since 1970.
    """
    settings = config.events
    if settings.notice_s is None:
        yield None
        return
    require("events", "telling guests of a pause")
    from harness.events.announcer import EventNotice
    from harness.events.membership import Scopes, memberships
    from harness.events.schema import Member
    from harness.events.service import served
    from harness.events.shared import SharedStore
    from harness.events.store import Store

    where = ["--address", settings.address, "--port", str(settings.port)]
    file = ["--config", str(config_file)] if config_file else []

    def known() -> list[Member]:
        deadline = Deadline.after(config.prepare_timeout_s)
        return memberships(config.guest, hypervisor.guests(deadline), scopes)

    shared = SharedStore.of(config.events, config.fleet)
    scopes = Scopes.of(config.availability_set, shared)
    with (
        Store(state_dir, shared=shared) as store,
        served(state_dir, [*file, "--uri", config.uri, *where]) as service,
    ):
        yield EventNotice(
            store,
            settings,
            config.availability_set,
            known,
            duration_s=update.expected_s,
            not_before_ns=not_before_ns,
            scopes=scopes,
            leased=config.fleet.database is not None,
            keep_served=service.ensure,
        )
