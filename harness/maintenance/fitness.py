"""Which guests and updates a plan may be made of: those that can be paused, and be paused under.

Pure: it is given what the hypervisor and the configuration said.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from harness.core.errors import HarnessError, MissingCapability, PlanError, WrongState, together
from harness.core.settings import GuestSection, Scope
from harness.host.advice import way_on
from harness.host.lifecycle import GuestState, Operation, allowed
from harness.host.protocol import GuestInfo
from harness.updates.protocol import HostUpdate

#: So many running guests are named where none was chosen.
_LISTED = 12


def opted_out(
    sections: Mapping[str, GuestSection], chosen: Sequence[GuestInfo], update: HostUpdate
) -> tuple[list[GuestInfo], list[str]]:
    """Return who takes part, and why the others do not.

    Raises PlanError if no guest can be left out.
    """
    reasons = {uuid: section.opt_out for uuid, section in sections.items()}
    out = [guest for guest in chosen if reasons[guest.uuid] is not None]
    if out and update.scope is Scope.HOST:
        raise PlanError(
            f"has opted out: {reasons[out[0].uuid]}; the update ({update.kind}) has scope host, "
            "so no guest can be left out",
            guest=out[0].name,
            hint="move or shut down the guest, or ask its owner",
        )
    warnings = [f"{guest.name} is left out: {reasons[guest.uuid]}" for guest in out]
    return [guest for guest in chosen if reasons[guest.uuid] is None], warnings


def refuse_unfit(update: HostUpdate, budget_s: float, resume_reserve_s: float) -> None:
    """Raise PlanError if it loses memory, or takes longer than guests may be paused."""
    if not update.preserves_memory:
        raise PlanError(
            f"the update ({update.kind}) does not preserve guest memory; it cannot be applied "
            "under paused guests",
            hint="move or shut down the guests and apply it without harness; "
            "declared by update.preserves_memory = false",
        )
    available_s = budget_s - resume_reserve_s
    if update.expected_s > available_s:
        raise PlanError(
            f"the update ({update.kind}) is expected to take {update.expected_s:.1f} s "
            f"({update.expected_from}); with the resume reserve of {resume_reserve_s:.1f} s "
            f"that exceeds the budget of {budget_s:.1f} s",
            hint="raise --budget if your guests can bear it, or say it better: update.expected_s",
        )


def refuse_nothing_or_twice(chosen: Sequence[GuestInfo], others: Sequence[GuestInfo]) -> None:
    """Raise PlanError where no guest is to be maintained, or one is named twice.

    ``others``: the host's remaining guests; those that run are named.
    """
    if not chosen:
        running = [guest.name for guest in others if guest.state.state is GuestState.RUNNING]
        more = f" and {len(running) - _LISTED} more" if running[_LISTED:] else ""
        here = f"running here: {', '.join(running[:_LISTED])}{more}; " if running else ""
        raise PlanError(
            "no guests to maintain",
            hint=f"{here}name them: harness run GUEST..., or list them as [[guest]] in "
            "harness.toml (harness init writes one)",
        )
    uuids = [guest.uuid for guest in chosen]
    for guest in chosen:
        if uuids.count(guest.uuid) > 1:
            raise PlanError("named more than once", guest=guest.name)


def refuse_unable(
    guests: Sequence[GuestInfo], accelerator: str, uri: str, held_by: str = ""
) -> None:
    """Raise what is wrong with guests, with all of them, so that a person need not ask again.

    ``held_by``: who holds the host, and what ends that; "": no run and no reservation does.
    """
    wrong: dict[str, HarnessError] = {}
    for guest in guests:
        try:
            _refuse_not_running(guest, uri, held_by)
            _refuse_other_accelerator(guest, accelerator)
        except HarnessError as error:
            wrong[guest.name] = error
    if wrong:
        raise together(wrong)


def _refuse_not_running(guest: GuestInfo, uri: str, held_by: str) -> None:
    if allowed(guest.state.state, Operation.PAUSE):
        return
    way = way_on(guest.state, uri, guest.name, guest.uuid)
    if guest.state.state is GuestState.PAUSED and held_by:
        hint = f"harness never resumes what another run has paused: {held_by}"
    elif guest.state.state is GuestState.PAUSED:
        hint = (
            "harness never resumes what it did not pause: harness recover, if a run of harness "
            f"did; else {way}"
        )
    else:
        hint = f"{way}; or leave it out of this run"
    raise WrongState(
        f"is {guest.state}, not running", operation="preflight", guest=guest.name, hint=hint
    )


def _refuse_other_accelerator(guest: GuestInfo, wanted: str) -> None:
    if wanted != "auto" and guest.accelerator != wanted:
        raise MissingCapability(
            wanted,
            f"{guest.name} runs on {guest.accelerator}, not on {wanted} as configured",
            hint='accelerator = "auto" takes what there is, and records it on every result',
        )
