#!/usr/bin/python
# Copyright: the authors of harness
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""``harness recover --json`` on one host."""

from __future__ import annotations

DOCUMENTATION = r"""
module: recovery
short_description: Finish what a dead run left on a host
version_added: 0.1.0
author: the authors of harness (@harness-kvm)
description:
  - Runs C(harness recover --json) on the host. It resumes guests that dead runs left paused,
    corrects their clocks and completes the records. Safe to run at any time, and again.
  - After it, M(harness_kvm.fleet.maintenance) with the same rollout finds the completed record.
  - In check mode C(--dry-run) says what would be done.
extends_documentation_fragment:
  - harness_kvm.fleet.common
attributes:
  check_mode:
    support: full
    description: Says what would be done.
  diff_mode:
    support: none
    description: What is done is in RV(runs).
"""

EXAMPLES = r"""
- name: A host that died in its wave is back
  harness_kvm.fleet.recovery:
"""

RETURN = r"""
runs:
  description: The dead runs, with what was done about each guest.
  returned: when it could look
  type: list
  elements: dict
paused:
  description: Guests that are paused and that no dead run explains.
  returned: when it could look
  type: list
  elements: dict
exit_code:
  description: What C(harness) returned.
  returned: always
  type: int
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.harness_kvm.fleet.plugins.module_utils.command import COMMON, ask


def main():
    """Give the command and tell what it did."""
    module = AnsibleModule(argument_spec=dict(COMMON), supports_check_mode=True)
    options = ["--dry-run"] if module.check_mode else []
    for name in ("config", "uri"):
        if module.params[name] is not None:
            options.append(f"--{name}={module.params[name]}")
    said = ask(module, "recover", "--json", *options)
    if said.error is not None and "runs" not in said.document:
        module.fail_json(msg=said.message, exit_code=said.code)
    result = {
        "changed": bool(said.document["runs"]),
        "runs": said.document["runs"],
        "paused": said.document["paused"],
        "exit_code": said.code,
    }
    if said.code != 0:
        module.fail_json(msg=said.message, **result)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
