#!/usr/bin/python
# Copyright: the authors of harness
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""``harness run --rollout ID --detach --json`` on one host."""

from __future__ import annotations

DOCUMENTATION = r"""
module: maintenance
short_description: Pause a host's guests, update the host, resume them, correct their clocks
version_added: 0.1.0
author: the authors of harness (@harness-kvm)
description:
  - Runs C(harness run --rollout ID --detach --json) on the host and tells what came of it.
  - One ID is one run of a host. The same task again waits for a run that goes on, and finds one
    that is over, without a pause of any guest. So the same playbook again is the resume.
  - The run goes on when this module, its connection or the controller is gone.
  - A host whose kernel is replaced by its run (kind C(kernel)) is asked again when it is back.
  - In check mode C(harness plan) says which guests would be paused together; nothing is begun. With
    C(--diff) it is shown as a difference.
options:
  rollout:
    description: The ID of the rollout; one run of a host has one.
    type: str
    required: true
  return_within:
    description:
      - The host may go on in another kernel meanwhile (kind C(kernel)). So long, such as C(15m),
        it is waited for when it is not reached, and then asked for its run.
      - By default 15m where O(kind) is V(kernel), and else not at all. A host whose own
        C(harness.toml) says that the kind is C(kernel) needs it here.
    type: str
  full_record:
    description: Return the whole of C(run.json). Without it, its ID and how each guest fared.
    type: bool
    default: false
extends_documentation_fragment:
  - harness_kvm.fleet.common
  - harness_kvm.fleet.guests
  - harness_kvm.fleet.maintenance
attributes:
  check_mode:
    support: full
    description: Says which guests would be paused together.
  diff_mode:
    support: full
    description: Shows that as a difference, in check mode.
seealso:
  - module: harness_kvm.fleet.recovery
  - module: harness_kvm.fleet.plan_info
"""

EXAMPLES = r"""
- name: Replace the kernel module under the guests of harness.toml
  harness_kvm.fleet.maintenance:
    rollout: module-2026-11
    kind: kernel-module

- name: Which guests would be paused together? With --check --diff
  harness_kvm.fleet.maintenance:
    rollout: module-2026-11
    guests: ["web*"]
    update: /usr/local/sbin/apply-patch --now
"""

RETURN = r"""
rollout:
  description: The ID that was given.
  returned: always
  type: str
outcome:
  description: V(pass), V(fail), V(refused), V(error), V(paused), V(not-now), V(not-needed) or
    V(interrupted).
    The task is skipped for V(not-needed) and has failed for all others but V(pass).
  returned: always
  type: str
exit_code:
  description: What C(harness) returned.
  returned: always
  type: int
already:
  description: It was over before this task, which changed nothing.
  returned: always
  type: bool
error:
  description: What ended it early, as C(type), C(message), C(hint), C(guest) and C(where).
  returned: always
  type: dict
run_id:
  description: The run of this host; none where no run was begun.
  returned: always
  type: str
guests:
  description: How each guest fared, with its pause window in seconds.
  returned: always
  type: list
  elements: dict
goes_on:
  description: Its run goes on; without check mode the task waits for it.
  returned: always
  type: bool
domains:
  description: Which guests would be paused together, in their order.
  returned: in check mode
  type: list
  elements: dict
record:
  description: All of C(run.json).
  returned: with O(full_record)
  type: dict
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.harness_kvm.fleet.plugins.module_utils.answer import (
    as_result,
    difference,
    domains,
)
from ansible_collections.harness_kvm.fleet.plugins.module_utils.command import (
    COMMON,
    MAINTENANCE,
    ask,
    words,
)


def main():
    """Give the command and tell what it answered."""
    module = AnsibleModule(
        argument_spec=dict(
            COMMON,
            rollout={"type": "str", "required": True},
            full_record={"type": "bool", "default": False},
            return_within={"type": "str"},
            **MAINTENANCE,
        ),
        supports_check_mode=True,
    )
    command = ["plan"] if module.check_mode else ["run", "--detach"]
    said = ask(module, *command, "--json", *words(module.params))
    if "outcome" not in said.document:
        module.fail_json(msg=said.message, exit_code=said.code)
    result = as_result(said.document, said.message, module.params["full_record"])
    result["goes_on"] = bool(said.document.get("goes_on"))
    plan = said.document.get("plan")
    if plan is not None:
        result["domains"] = domains(plan)
        result["changed"] = bool(result["domains"]) and not result["already"]
        if module._diff and result["changed"]:
            result["diff"] = difference(plan)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
