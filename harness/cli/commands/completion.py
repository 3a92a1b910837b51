"""What a shell may complete: guests, runs, figures, events. Quick, and never an error."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import CompletionItem

if TYPE_CHECKING:
    from harness.core.settings import Config

#: A person waits with a finger on the key.
_PATIENCE_S = 2.0

Completed = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]


def quietly(find: Callable[[click.Context], Iterable[tuple[str, str]]]) -> Completed:
    """Complete by what ``find`` returns: pairs of a word and what it is; none if it fails."""

    def complete(
        ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        given = ctx.params.get(param.name or "") or ()
        try:
            found = [(word, help_) for word, help_ in find(ctx) if word.startswith(incomplete)]
        except Exception:  # noqa: BLE001  there is no place to say what is wrong
            return []
        return [CompletionItem(word, help=help_) for word, help_ in found if word not in given]

    return complete


def _config(ctx: click.Context) -> Config:
    from harness import api

    found: Any = ctx.params.get("config_file") or os.environ.get("HARNESS_CONFIG")
    return api.load_config(Path(found) if found else None, {"uri": ctx.params.get("uri")}).config


def _guests(ctx: click.Context) -> Iterable[tuple[str, str]]:
    from harness.api import Backend
    from harness.core.errors import HarnessError
    from harness.core.timebase import Deadline

    config = _config(ctx)
    names = {guest.name: "" for guest in config.guest}
    quick = config.model_copy(update={"prepare_timeout_s": _PATIENCE_S})
    try:
        with Backend.real().connect(quick) as hypervisor:
            known = hypervisor.guests(Deadline.after(_PATIENCE_S))
        names |= {guest.name: str(guest.state.state) for guest in known}
    except HarnessError:
        pass  # those of the configuration are known without
    return sorted(names.items())


def _runs(ctx: click.Context) -> Iterable[tuple[str, str]]:
    from harness.core.paths import state_dir
    from harness.results.folder import all_runs

    return [(folder.run_id, "") for folder in reversed(list(all_runs(state_dir())))]


def _figures(ctx: click.Context) -> Iterable[tuple[str, str]]:
    from harness.core.settings import CHECK_NAMES
    from harness.results.history.figures import KINDS

    of_checks = [(f"check.{name}", "measured by the check") for name in CHECK_NAMES]
    return [*((name, kind.meaning) for name, kind in KINDS.items()), *of_checks]


def _events(ctx: click.Context) -> Iterable[tuple[str, str]]:
    from harness.core.paths import state_dir
    from harness.events.scheduler import scheduled
    from harness.events.store import Store

    with Store(state_dir()) as store:
        found = [(one.event.event_id, one.state.value) for one in store.events()]
        return [*found, *((str(one.number), one.state) for one in scheduled(store))]


#: Names of guests: those of the configuration and those that libvirt knows.
guests = quietly(_guests)
#: Ids of runs, the newest first.
runs = quietly(_runs)
#: Figures of the history.
figures = quietly(_figures)
#: Ids of Scheduled Events, and numbers of scheduled maintenances.
events = quietly(_events)
