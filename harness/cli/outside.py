"""``harness run`` and ``plan`` of a host that carries a maintenance out itself."""

from __future__ import annotations

from typing import Any

from harness import api
from harness.cli import collectors, telling
from harness.cli.commands.common import print_json, say, spoken
from harness.cli.commands.run import conclude, print_finished
from harness.core.config import Loaded
from harness.core.errors import InfrastructureError
from harness.maintenance.run import Finished
from harness.results.answer import Answer


def run_there(
    loaded: Loaded, guests: tuple[str, ...], rollout: str | None, *, as_json: bool, report: bool
) -> int:
    """Have the host carry it out, follow it, print its record; return the exit code."""
    telling.check(loaded.config.notify)
    collectors.check(loaded.config)
    outside = _asked(loaded, guests, rollout)
    try:
        finished, answer = outside.maintain(say)
    except KeyboardInterrupt as error:
        raise InfrastructureError(
            f"this command was interrupted; the run on {outside.place.host} goes on without it",
            hint=f"the same command with --rollout {outside.rollout} waits for it again; "
            f"{outside.by_hand}",
        ) from error
    if rollout is None or answer is None:
        print_finished(finished, as_json)
    elif as_json:
        with spoken():
            print_json(_answer(answer, finished))
    else:
        print_finished(finished, as_json=False)
    conclude(finished, config=loaded.config, show=False, report=report)
    if finished.error is not None:
        raise finished.error
    return finished.record.exit_code


def plan_there(
    loaded: Loaded, guests: tuple[str, ...], rollout: str | None, *, as_json: bool
) -> None:
    """Print the plan of the host itself; nothing is touched."""
    answer = _asked(loaded, guests, rollout).plan(say)
    plan: dict[str, Any] = answer.plan or {}
    if as_json:
        print_json(plan if rollout is None else answer.model_dump(mode="json"))
        return
    for warning in plan.get("warnings", ()):
        say(f"warning: {warning}")
    for domain in plan.get("update_domains", ()):
        names = ", ".join(guest["name"] for guest in domain["guests"])
        say(f"update domain {domain['name']}: {names}")


def _asked(loaded: Loaded, guests: tuple[str, ...], rollout: str | None) -> api.Outside:
    outside = api.Outside.of(loaded, guests, rollout)
    if outside.left_here:
        say(
            f"{outside.place.host} goes by its own harness.toml, with the update, limits, clocks "
            f"and checks as they are here; not sent: {', '.join(outside.left_here)}"
        )
    return outside


def _answer(answer: Answer, finished: Finished) -> dict[str, Any]:
    code = finished.record.exit_code
    return answer.model_copy(
        update={"record": finished.record, "exit_code": answer.exit_code or code}
    ).model_dump(mode="json")
