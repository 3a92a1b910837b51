#!/usr/bin/python
# Copyright: the authors of harness
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""``harness clock show|correct --json`` on one host."""

from __future__ import annotations

DOCUMENTATION = r"""
module: guest_clock
short_description: Measure or correct the clocks of a host's guests, without a pause
version_added: 0.1.0
author: the authors of harness (@harness-kvm)
description:
  - Runs C(harness clock show --json) or C(harness clock correct --json) on the host.
  - In check mode clocks are measured and judged only.
options:
  state:
    description: V(measured) measures; V(correct) sets each clock to the host's and measures again.
    type: str
    choices: [measured, correct]
    default: correct
  guests:
    description: Names, UUIDs or patterns; none given, as with O(all).
    type: list
    elements: str
    default: []
  tolerance:
    description: Allowed offset, such as C(5ms).
    type: str
extends_documentation_fragment:
  - harness_kvm.fleet.common
  - harness_kvm.fleet.guests
attributes:
  check_mode:
    support: full
    description: Measures and judges.
  diff_mode:
    support: none
    description: What was measured is in RV(guests).
"""

EXAMPLES = r"""
- name: The clocks of all guests are right
  harness_kvm.fleet.guest_clock:
    tolerance: 10ms
"""

RETURN = r"""
guests:
  description: What was measured of each guest, as C(harness clock correct --json) prints it.
  returned: when it could look
  type: list
  elements: dict
exit_code:
  description: What C(harness) returned; 1 where a clock is not right.
  returned: always
  type: int
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.harness_kvm.fleet.plugins.module_utils.command import (
    COMMON,
    GUESTS,
    ask,
    words,
)


def main():
    """Give the command and tell what it measured."""
    module = AnsibleModule(
        argument_spec=dict(
            COMMON,
            state={"type": "str", "choices": ["measured", "correct"], "default": "correct"},
            tolerance={"type": "str"},
            **GUESTS,
        ),
        supports_check_mode=True,
    )
    command = ["clock", "show"] if module.params["state"] == "measured" else ["clock", "correct"]
    if module.check_mode and command[1] == "correct":
        command.append("--dry-run")
    given = dict(module.params, all=module.params["all"] or not module.params["guests"])
    said = ask(module, *command, "--json", *words(given))
    if said.error is not None:
        module.fail_json(msg=said.message, exit_code=said.code)
    guests = said.document["guests"]
    result = {
        "changed": any(guest.get("method") for guest in guests),
        "guests": guests,
        "exit_code": said.code,
    }
    if said.code != 0:
        wrong = [
            "{}: {}".format(one.get("name"), one.get("detail"))
            for one in guests
            if one.get("outcome") != "pass"
        ]
        module.fail_json(msg="; ".join(wrong) or said.message, **result)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
