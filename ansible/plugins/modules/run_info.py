#!/usr/bin/python
# Copyright: the authors of harness
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""``harness report RUN --json`` on one host."""

from __future__ import annotations

DOCUMENTATION = r"""
module: run_info
short_description: The record of a run of a host
version_added: 0.1.0
author: the authors of harness (@harness-kvm)
description:
  - Runs C(harness report RUN --json) on the host and returns C(run.json).
options:
  run:
    description: Its ID, or the beginning or end of one; none given, the newest.
    type: str
  executable:
    description: The command on the host; a name is looked up in its PATH.
    type: str
    default: harness
attributes:
  check_mode:
    support: full
    description: It changes nothing.
  diff_mode:
    support: none
    description: It changes nothing.
"""

EXAMPLES = r"""
- name: The newest run
  harness_kvm.fleet.run_info:
  register: newest
"""

RETURN = r"""
record:
  description: C(run.json).
  returned: success
  type: dict
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.harness_kvm.fleet.plugins.module_utils.command import COMMON, ask


def main():
    """Give the command and return the record."""
    module = AnsibleModule(
        argument_spec={"executable": COMMON["executable"], "run": {"type": "str"}},
        supports_check_mode=True,
    )
    wanted = ["--", module.params["run"]] if module.params["run"] else []
    said = ask(module, "report", "--json", *wanted)
    if said.error is not None:
        module.fail_json(msg=said.message, exit_code=said.code)
    module.exit_json(changed=False, record=said.document)


if __name__ == "__main__":
    main()
