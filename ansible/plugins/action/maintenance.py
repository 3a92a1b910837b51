# Copyright: the authors of harness
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module C(maintenance), given again to a host that goes on in another kernel.

One ID is one run of a host, so the same task waits for it, or finds it done.
"""

from __future__ import annotations

import re
import time

from ansible.errors import AnsibleActionFail, AnsibleConnectionFailure
from ansible.utils.display import Display

from ansible.plugins.action import ActionBase

_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600}
_TRY_AGAIN_S = 3
#: A host that is left by a kexec closes no connection: the SSH client has to ask.
_KEEP_ALIVE = "-o ServerAliveInterval=5 -o ServerAliveCountMax=3"
_KERNEL_S = 900.0

display = Display()


def seconds(text):
    """Return a duration such as C(15m) in seconds. Raises AnsibleActionFail."""
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([smh]?)\s*", str(text))
    if found is None:
        raise AnsibleActionFail(f"return_within: {text!r} is no duration such as 15m")
    return float(found[1]) * _UNITS[found[2]]


class ActionModule(ActionBase):
    """Gives the module to the host until it is answered, or the host is lost."""

    def run(self, tmp=None, task_vars=None):
        """Return what the module returned in the end."""
        super().run(tmp, task_vars)
        limit_s = self._limit_s()
        if not limit_s or self._task.check_mode:
            return self._once(task_vars)
        self._expect_silence()
        lost_at = None
        while True:
            try:
                result = self._once(task_vars)
                if not result.get("unreachable"):
                    return result if lost_at is None else _found_again(result)
                said = result.get("msg")
            except AnsibleConnectionFailure as error:
                said = str(error)
            now = time.monotonic()
            lost_at = lost_at or now
            host = self._task_host(task_vars)
            if now - lost_at > limit_s:
                raise AnsibleConnectionFailure(
                    f"{host} has not answered for {now - lost_at:.0f} s; whether its guests run is "
                    f"not known; look at its console; the same task again asks for its run: {said}"
                )
            display.v(f"{host}: not reached, another kernel may be on its way: {said}")
            time.sleep(_TRY_AGAIN_S)
            self._new_connection()

    def _once(self, task_vars):
        asked = {key: one for key, one in self._task.args.items() if key != "return_within"}
        return self._execute_module(
            module_name="harness_kvm.fleet.maintenance",
            module_args=asked,
            task_vars=task_vars,
            wrap_async=self._task.async_val,
        )

    def _limit_s(self):
        given = self._task.args.get("return_within")
        if given is not None:
            return seconds(given)
        return _KERNEL_S if self._task.args.get("kind") == "kernel" else 0.0

    def _expect_silence(self):
        """Have the SSH client notice a host that is gone; a connection that is shared does not."""
        try:
            more = self._connection.get_option("ssh_extra_args") or ""
            self._connection.set_option("ssh_extra_args", f"{_KEEP_ALIVE} {more}".strip())
        except (KeyError, AttributeError):
            return  # it is no connection by ssh
        self._new_connection()

    def _new_connection(self):
        try:
            self._connection.reset()
        except (AttributeError, AnsibleConnectionFailure) as error:
            display.vv(f"the connection was not reset: {error}")

    def _task_host(self, task_vars):
        return (task_vars or {}).get("inventory_hostname", "the host")


def _found_again(result):
    """Return the result of a run that this task has begun: it was not over before."""
    paused = any(
        guest.get("pause_window_s") is not None or guest.get("still_paused")
        for guest in result.get("guests") or ()
    )
    return dict(result, already=False, changed=paused)
