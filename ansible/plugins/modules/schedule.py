#!/usr/bin/python
# Copyright: the authors of harness
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""``harness events schedule|cancel --json`` on one host."""

from __future__ import annotations

DOCUMENTATION = r"""
module: schedule
short_description: Schedule a maintenance of a host for later, or cancel one
version_added: 0.1.0
author: the authors of harness (@harness-kvm)
description:
  - Runs C(harness events schedule --once --json) or C(harness events cancel --json) on the host.
  - A maintenance that is scheduled is carried out by C(harness events serve) of that host, which
    notifies its guests beforehand. It needs no controller then, and knows no waves.
  - It is planned when it is scheduled, so that what cannot be done is refused at once.
  - The same task again finds the maintenance that waits.
options:
  state:
    description: V(present) schedules; V(absent) cancels what waits, or an event that has not begun.
    type: str
    choices: [present, absent]
    default: present
  at:
    description:
      - Earliest pause, such as C(2026-12-01T02:00+01:00); UTC if no offset is given.
      - With V(absent), cancel every maintenance that waits for this time.
    type: str
  event:
    description: With V(absent), cancel this event by its ID or the beginning of it, or this
      maintenance by its number, such as V(#3).
    type: str
notes:
  - Only a server of the same state folder carries it out. Where that runs as a service, give the
    task C(environment) with E(HARNESS_STATE_DIR), such as C(/var/lib/harness).
extends_documentation_fragment:
  - harness_kvm.fleet.common
  - harness_kvm.fleet.guests
  - harness_kvm.fleet.maintenance
attributes:
  check_mode:
    support: full
    description: Says what would be scheduled or cancelled, and which guests would be paused
      together.
  diff_mode:
    support: full
    description: Shows which guests would be paused together.
seealso:
  - module: harness_kvm.fleet.maintenance
"""

EXAMPLES = r"""
- name: Replace QEMU on Sunday night, with fifteen minutes of notice
  harness_kvm.fleet.schedule:
    at: 2026-12-06T02:00+01:00
    notify: 15m
    kind: qemu
  environment:
    HARNESS_STATE_DIR: /var/lib/harness

- name: Not on that night
  harness_kvm.fleet.schedule:
    state: absent
    at: 2026-12-06T02:00+01:00
  environment:
    HARNESS_STATE_DIR: /var/lib/harness
"""

RETURN = r"""
number:
  description: The number of the maintenance that waits; none in check mode where none does.
  returned: with O(state=present)
  type: int
domains:
  description: Which guests would be paused together, in their order.
  returned: with O(state=present), in check mode or with a difference
  type: list
  elements: dict
cancelled:
  description: Numbers of maintenances, such as V(#3), and IDs of events that were cancelled.
  returned: with O(state=absent)
  type: list
  elements: str
"""

from datetime import datetime, timezone

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.harness_kvm.fleet.plugins.module_utils.answer import (
    difference,
    domains,
)
from ansible_collections.harness_kvm.fleet.plugins.module_utils.command import (
    COMMON,
    MAINTENANCE,
    ask,
    words,
)

_OVER = ("Ended", "Cancelled")


def present(module):
    """Schedule it, unless the same waits already."""
    command = ["events", "schedule", "--once", "--json", "--at={}".format(module.params["at"])]
    given = words(module.params)
    result = {"changed": False}
    if module.check_mode or module._diff:
        said = answered(module, *command, "--dry-run", *given)
        result["number"] = said.document["scheduled"]
        result["domains"] = domains(said.document)
        result["changed"] = result["number"] is None
        if module._diff and result["changed"]:
            result["diff"] = difference(said.document)
    if not module.check_mode:
        said = answered(module, *command, *given)
        result["number"] = said.document["scheduled"]
        result["changed"] = not said.document["already"]
        for line in said.err.splitlines():
            if line.startswith("warning: "):
                module.warn(line[len("warning: ") :])
    return result


def absent(module):
    """Cancel what waits."""
    wanted, config = module.params["event"], module.params["config"]
    start_ns = None if wanted else nanoseconds(module, module.params["at"])
    more = [f"--config={config}"] if config is not None else []
    known = answered(module, "events", "list", "--all", "--json", *more).document
    chosen = [
        "#{}".format(one["number"])
        for one in known["scheduled"]
        if one["state"] == "waiting"
        and (one["start_ns"] == start_ns or (wanted and str(one["number"]) == wanted.lstrip("#")))
    ]
    if wanted and not wanted.lstrip("#").isdigit():
        chosen = [
            one["event_id"]
            for one in known["events"]
            if one["event_id"].startswith(wanted.upper()) and one["state"] not in _OVER
        ]
        if len(chosen) > 1:
            module.fail_json(msg=f"{wanted!r} fits {len(chosen)} events")
    for one in chosen:
        if not module.check_mode:
            answered(module, "events", "cancel", "--json", *more, "--", one)
    return {"changed": bool(chosen), "cancelled": chosen}


def nanoseconds(module, at):
    """Return a time as C(harness events list) has it."""
    try:
        found = datetime.fromisoformat(at.replace("Z", "+00:00"))
    except ValueError:
        module.fail_json(msg=f"at: invalid time {at!r}, expected e.g. 2026-12-01T02:00+01:00")
    if found.tzinfo is None:
        found = found.replace(tzinfo=timezone.utc)
    return round(found.timestamp()) * 1000000000


def answered(module, *command):
    """Return what a command said; fails the module where it refused."""
    said = ask(module, *command)
    if said.error is not None or said.code != 0:
        module.fail_json(msg=said.message, exit_code=said.code)
    return said


def main():
    """Give the command and tell what it answered."""
    module = AnsibleModule(
        argument_spec=dict(
            COMMON,
            state={"type": "str", "choices": ["present", "absent"], "default": "present"},
            at={"type": "str"},
            event={"type": "str"},
            **MAINTENANCE,
        ),
        required_if=[("state", "present", ["at"]), ("state", "absent", ["at", "event"], True)],
        mutually_exclusive=[("at", "event")],
        supports_check_mode=True,
    )
    result = present(module) if module.params["state"] == "present" else absent(module)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
