#!/usr/bin/python
# Copyright: the authors of harness
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""``harness plan --json`` on one host."""

from __future__ import annotations

DOCUMENTATION = r"""
module: plan_info
short_description: Which guests of a host would be paused with which
version_added: 0.1.0
author: the authors of harness (@harness-kvm)
description:
  - Runs C(harness plan --json) on the host. Nothing is touched, and no guest is logged in to.
  - A plan that is refused is no failure of this module; RV(refused) says why.
options:
  rollout:
    description: The ID of the rollout that it is planned for.
    type: str
extends_documentation_fragment:
  - harness_kvm.fleet.common
  - harness_kvm.fleet.guests
  - harness_kvm.fleet.maintenance
attributes:
  check_mode:
    support: full
    description: It changes nothing.
  diff_mode:
    support: none
    description: It changes nothing.
seealso:
  - module: harness_kvm.fleet.maintenance
"""

EXAMPLES = r"""
- name: What would be paused together?
  harness_kvm.fleet.plan_info:
    kind: qemu
  register: planned
"""

RETURN = r"""
document:
  description: All that C(harness plan) printed; what P(harness_kvm.fleet.waves#filter) takes.
  returned: always
  type: dict
domains:
  description: Which guests would be paused together, in their order; empty where the plan was
    refused.
  returned: always
  type: list
  elements: dict
refused:
  description: Why there is no plan, in one line; none where there is one.
  returned: always
  type: str
not_needed:
  description: There is no plan because what was asked for is so already.
  returned: always
  type: bool
already:
  description: With O(rollout), the host has done its part.
  returned: always
  type: bool
goes_on:
  description: With O(rollout), its run goes on; there is no plan of it.
  returned: always
  type: bool
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.harness_kvm.fleet.plugins.module_utils.answer import domains
from ansible_collections.harness_kvm.fleet.plugins.module_utils.command import (
    COMMON,
    MAINTENANCE,
    ask,
    words,
)


def main():
    """Give the command and tell what it answered."""
    module = AnsibleModule(
        argument_spec=dict(COMMON, rollout={"type": "str"}, **MAINTENANCE),
        supports_check_mode=True,
    )
    said = ask(module, "plan", "--json", *words(module.params))
    error = said.error
    plan = {} if error else said.document.get("plan") or said.document
    module.exit_json(
        changed=False,
        document=said.document,
        domains=domains(plan) if "update_domains" in plan else [],
        refused=said.message if error else None,
        not_needed=said.document.get("outcome") == "not-needed",
        already=bool(said.document.get("already")),
        goes_on=bool(said.document.get("goes_on")),
    )


if __name__ == "__main__":
    main()
