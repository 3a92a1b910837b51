#!/usr/bin/python
# Copyright: the authors of harness
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""``harness doctor --json`` on one host."""

from __future__ import annotations

DOCUMENTATION = r"""
module: doctor_info
short_description: Whether a maintenance of a host could be tried
version_added: 0.1.0
author: the authors of harness (@harness-kvm)
description:
  - Runs C(harness doctor --json) on the host. Nothing is changed.
  - What is wrong is no failure of this module; RV(usable) says whether a maintenance could be
    tried.
options:
  guests:
    description: The guests to look at; none given, those of the configuration, else all that run.
    type: list
    elements: str
    default: []
extends_documentation_fragment:
  - harness_kvm.fleet.common
attributes:
  check_mode:
    support: full
    description: It changes nothing.
  diff_mode:
    support: none
    description: It changes nothing.
"""

EXAMPLES = r"""
- name: Can this host do it?
  harness_kvm.fleet.doctor_info:
  register: looked
  failed_when: not looked.usable
"""

RETURN = r"""
usable:
  description: A maintenance could be tried.
  returned: always
  type: bool
findings:
  description: Each with C(name), C(level), C(detail) and C(fix).
  returned: always
  type: list
  elements: dict
problems:
  description: What keeps a maintenance from being tried, one line each, with how to fix it.
  returned: always
  type: list
  elements: str
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.harness_kvm.fleet.plugins.module_utils.command import COMMON, ask, words


def main():
    """Give the command and tell what it found."""
    module = AnsibleModule(
        argument_spec=dict(COMMON, guests={"type": "list", "elements": "str", "default": []}),
        supports_check_mode=True,
    )
    said = ask(module, "doctor", "--json", *words(module.params))
    if said.error is not None:
        module.fail_json(msg=said.message, exit_code=said.code)
    findings = said.document["findings"]
    module.exit_json(
        changed=False,
        usable=said.code == 0,
        findings=findings,
        problems=[
            "{}: {} (hint: {})".format(one["name"], one["detail"], one["fix"])
            for one in findings
            if one["level"] == "problem"
        ],
    )


if __name__ == "__main__":
    main()
