# Copyright: the authors of harness
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""``harness fleet status --json`` as an inventory."""

from __future__ import annotations

DOCUMENTATION = r"""
name: rollout
short_description: Hosts of a rollout, from the fleet's database
version_added: 0.1.0
author: the authors of harness (@harness-kvm)
description:
  - Asks C(harness fleet status --json) on the controller. No host is asked.
  - The file is called C(*.harness.yml) or C(*.harness.yaml).
  - Each host is in the groups C(fleet_wave_N), or C(fleet_no_wave), and C(fleet_STATE), where the
    state is one of C(harness fleet status), C(not_needed) for a host that is left out, and
    C(fleet_canaries), if it is one.
  - Hosts have the names under which they were planned. How they are reached, other inventories say
    or O(compose).
  - A wave of this rollout is no wish for the next one, so it is not called C(harness_wave).
options:
  plugin:
    description: This plugin.
    type: str
    required: true
    choices: [harness_kvm.fleet.rollout]
  database:
    description: URL of the fleet's database; C(fleet.database) of the controller's configuration if
      not given. It has no password.
    type: str
    env:
      - name: HARNESS_FLEET_DATABASE
  rollout:
    description: Its ID; that of which something was heard last if not given.
    type: str
  executable:
    description: The command on the controller.
    type: str
    default: harness
extends_documentation_fragment:
  - ansible.builtin.constructed
"""

EXAMPLES = r"""
# kernel.harness.yml
plugin: harness_kvm.fleet.rollout
database: postgresql://harness@db.example.org/fleet
rollout: kernel-11

# ansible -i kernel.harness.yml -m ansible.builtin.debug -a var=fleet_message fleet_failed
"""

from ansible.errors import AnsibleError, AnsibleParserError
from ansible_collections.harness_kvm.fleet.plugins.plugin_utils.controller import answer

from ansible.plugins.inventory import BaseInventoryPlugin, Constructable

#: Of a host, as harness fleet status prints it → a variable of that name, with a prefix.
_TOLD = (
    *("state", "run_id", "doing", "began_at", "told_at", "ended_at", "outcome", "exit_code"),
    *("message", "guests", "pause_window_s", "residual_s"),
)


class InventoryModule(BaseInventoryPlugin, Constructable):
    """The plugin."""

    NAME = "harness_kvm.fleet.rollout"

    def verify_file(self, path):
        """Return True for a file that is meant for this plugin."""
        suited = path.endswith((".harness.yml", ".harness.yaml"))
        return suited and super().verify_file(path)

    def parse(self, inventory, loader, path, cache=True):
        """Fill the inventory. Raises AnsibleParserError."""
        super().parse(inventory, loader, path, cache)
        given, known = self._read_config_data(path), self.option_definitions
        for name in given:
            if name not in known:
                raise AnsibleParserError(f"no option {name!r}, only {', '.join(sorted(known))}")
        words = [self.get_option("executable"), "fleet", "status", "--json"]
        if self.get_option("database"):
            words.append("--database={}".format(self.get_option("database")))
        if self.get_option("rollout"):
            words += ["--", self.get_option("rollout")]
        try:
            said = answer(words, "waves")
        except AnsibleError as error:
            raise AnsibleParserError(str(error)) from None
        for wave in said["waves"]:
            for one in wave["hosts"]:
                told = {f"fleet_{name}": one[name] for name in _TOLD}
                known = {"fleet_wave": wave["number"], "fleet_canary": wave["canary"]}
                self._add(said["rollout"], one["host"], dict(told, **known))
        for host, why in said["not_needed"].items():
            self._add(said["rollout"], host, {"fleet_state": "not_needed", "fleet_message": why})

    def _add(self, rollout, host, variables):
        self.inventory.add_host(host)
        wave = variables.get("fleet_wave")
        groups = [f"fleet_wave_{wave}" if wave else "fleet_no_wave"]
        groups.append("fleet_{}".format(variables["fleet_state"]))
        if variables.get("fleet_canary"):
            groups.append("fleet_canaries")
        for group in groups:
            self.inventory.add_child(self.inventory.add_group(group), host)
        for name, value in dict(variables, fleet_rollout=rollout).items():
            self.inventory.set_variable(host, name, value)
        known = self.inventory.get_host(host).get_vars()
        strict = self.get_option("strict")
        self._set_composite_vars(self.get_option("compose"), known, host, strict=strict)
        self._add_host_to_composed_groups(self.get_option("groups"), known, host, strict=strict)
        self._add_host_to_keyed_groups(self.get_option("keyed_groups"), known, host, strict=strict)
