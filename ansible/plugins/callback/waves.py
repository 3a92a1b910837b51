# Copyright: the authors of harness
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which wave goes on, and how long guests were paused, as it happens."""

from __future__ import annotations

DOCUMENTATION = r"""
name: waves
type: aggregate
short_description: Waves of a rollout and pauses of its guests, as they go
version_added: 0.1.0
author: the authors of harness (@harness-kvm)
description:
  - Prints a line where a host's maintenance begins and where it ended, one where a wave is over,
    and how the rollout ended; beside what the stdout callback prints.
  - In check mode it prints which guests would be paused together.
requirements:
  - enable in configuration, or by E(ANSIBLE_CALLBACKS_ENABLED)
"""

from ansible.plugins.callback import CallbackBase

_WELL = ("pass", "not-needed")


def shown(text):
    """Return a text without what a terminal would obey."""
    return "".join(one if one.isprintable() else "?" for one in str(text))


class CallbackModule(CallbackBase):
    """The callback."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "harness_kvm.fleet.waves"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self):
        """Nothing is known yet."""
        super().__init__()
        self._waves = {}  # number → its hosts
        self._canaries = set()
        self._told = False
        self._ended = {}  # host → True if it ended well
        self._pauses = []  # (seconds, guest, host)

    def v2_runner_item_on_ok(self, result):
        """Note a host that is put into a wave."""
        made = result.result.get("add_host") or {}
        known = made.get("host_vars") or {}
        if "rolling_maintenance_wave" in known:
            number = int(known["rolling_maintenance_wave"])
            self._waves.setdefault(number, []).append(made["host_name"])
            if known.get("rolling_maintenance_canary"):
                self._canaries.add(number)

    def v2_runner_on_start(self, host, task):
        """A host's maintenance begins."""
        if self._is_maintenance(task):
            if self._waves and not self._told:
                self._told = True
                for number, hosts in sorted(self._waves.items()):
                    self._say("{}: {}".format(self._wave(number), ", ".join(hosts)))
            self._say(f"{self._place(host.get_name())}: begins")

    def v2_runner_on_ok(self, result):
        """A host's maintenance ended well, or, in check mode, is foreseen."""
        self._host_ended(result)

    def v2_runner_on_failed(self, result, ignore_errors=False):
        """It did not."""
        self._host_ended(result)

    def v2_runner_on_skipped(self, result):
        """It was not needed."""
        self._host_ended(result)

    def v2_runner_on_unreachable(self, result):
        """The host was lost; whether its run goes on is not known here."""
        self._host_ended(result)

    def v2_playbook_on_stats(self, stats):
        """Sum it up."""
        hosts = [host for wave in self._waves.values() for host in wave] or list(self._ended)
        if not self._ended:
            return
        well = sum(self._ended.get(host, False) for host in hosts)
        waiting = sum(host not in self._ended for host in hosts)
        more = f", {waiting} not begun" if waiting else ""
        self._say(f"{well} of {len(hosts)} hosts well{more}{self._longest(hosts)}")

    def _host_ended(self, result):
        if not self._is_maintenance(result.task):
            return
        host, said = result.host.get_name(), result.result
        if said.get("domains") is not None:
            self._ended[host] = True
            pauses = "; ".join(" + ".join(one["guests"]) for one in said["domains"])
            self._say("{}: would pause {}".format(self._place(host), pauses or "no guest"))
            return
        self._ended[host] = said.get("outcome") in _WELL
        for guest in said.get("guests") or ():
            if guest.get("pause_window_s") is not None:
                self._pauses.append((guest["pause_window_s"], guest["name"], host))
        self._say(f"{self._place(host)}: {self._how(host, said)}{self._longest([host])}")
        number = self._number(host)
        hosts = self._waves.get(number, ())
        if hosts and all(one in self._ended for one in hosts):
            well = sum(self._ended[one] for one in hosts)
            over = f"{well} of {len(hosts)} hosts well"
            self._say(f"{self._wave(number)} is over: {over}{self._longest(hosts)}")

    def _how(self, host, said):
        if self._ended[host]:
            return said["outcome"] + (", was over before" if said.get("already") else "")
        if said.get("unreachable"):
            return "not reached; a run that was begun goes on"
        return said.get("msg") or "failed"

    def _longest(self, hosts):
        found = [one for one in self._pauses if one[2] in hosts]
        if not found:
            return ""
        seconds, guest, host = max(found)
        where = f" on {host}" if len(hosts) > 1 else ""
        return f"; longest pause {seconds:.2f} s ({guest}{where})"

    def _number(self, host):
        return next((number for number, hosts in self._waves.items() if host in hosts), None)

    def _place(self, host):
        number = self._number(host)
        return f"{self._wave(number)}, {host}" if number else host

    def _wave(self, number):
        canary = " (canary)" if number in self._canaries else ""
        return f"wave {number}/{max(self._waves)}{canary}"

    @staticmethod
    def _is_maintenance(task):
        return task.resolved_action == "harness_kvm.fleet.maintenance"

    def _say(self, text):
        self._display.display(f"rollout: {shown(text)}")
