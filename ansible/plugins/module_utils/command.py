# Copyright: the authors of harness
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""One command of harness on this host, and its JSON; what it means is decided by harness alone."""

from __future__ import annotations

import json
import os

#: Every module's: which harness, and what all its commands take.
COMMON = {
    "executable": {"type": "str", "default": "harness"},
    "config": {"type": "path"},
    "uri": {"type": "str"},
}

#: Options of the module → options of the command, where a value follows.
_WITH_VALUE = {
    "config": "--config",
    "uri": "--uri",
    "update": "--update",
    "kind": "--kind",
    "scope": "--scope",
    "expected": "--expected",
    "duration": "--duration",
    "budget": "--budget",
    "reserve": "--reserve",
    "access": "--access",
    "spread": "--spread",
    "at_most": "--at-most",
    "soak": "--soak",
    "notify": "--notify",
    "tolerance": "--tolerance",
    "rollout": "--rollout",
}

#: Which guests, and the way into them.
GUESTS = {
    "guests": {"type": "list", "elements": "str", "default": []},
    "all": {"type": "bool", "default": False},
    "exclude": {"type": "list", "elements": "str", "default": []},
    "access": {"type": "str", "choices": ["ssh", "agent", "auto"]},
}

#: What ``run``, ``plan`` and ``events schedule`` take.
MAINTENANCE = dict(
    GUESTS,
    update={"type": "str"},
    kind={"type": "str"},
    scope={"type": "str", "choices": ["host", "guest"]},
    expected={"type": "str"},
    duration={"type": "str"},
    budget={"type": "str"},
    reserve={"type": "str"},
    spread={"type": "int"},
    at_most={"type": "int"},
    soak={"type": "str"},
    notify={"type": "str"},
    extra_options={"type": "list", "elements": "str", "default": []},
)


class Said:
    """What a command said: its exit code, its document if there is one, its standard error."""

    def __init__(self, code, document, err):
        self.code = code
        self.document = document
        self.err = err

    @property
    def error(self):
        """The error of its document, or None."""
        found = self.document.get("error") if isinstance(self.document, dict) else None
        return found if isinstance(found, dict) else None

    @property
    def message(self):
        """Why it failed, in its own words."""
        error = self.error
        if error is not None:
            guest = "{}: ".format(error["guest"]) if error.get("guest") else ""
            hint = " (hint: {})".format(error["hint"]) if error.get("hint") else ""
            return "{}{}{}".format(guest, error.get("message"), hint)
        last = self.err.strip().splitlines()[-5:]
        return "\n".join(last) or f"harness ended with exit code {self.code} and said nothing"


def words(params):
    """Return the options that were given, as words of a command line; the guests come last."""
    found = []
    for name, flag in _WITH_VALUE.items():
        if params.get(name) is not None:
            found += [f"{flag}={params[name]}"]
    if params.get("all"):
        found.append("--all")
    found += [f"--except={guest}" for guest in params.get("exclude") or ()]
    found += params.get("extra_options") or []
    return found + ["--"] + (params.get("guests") or [])


def ask(module, *command):
    """Run ``harness COMMAND`` and return what it said; fails the module where it said no JSON."""
    executable = module.params["executable"]
    if "/" not in executable:
        executable = module.get_bin_path(executable, required=True)
    elif not os.access(executable, os.X_OK):
        module.fail_json(msg=f"executable: {executable} is no program on this host")
    code, out, err = module.run_command([executable] + list(command))
    try:
        document = json.loads(out)
    except ValueError:
        module.fail_json(
            msg="{}: no JSON (exit code {}): {}".format(
                " ".join(command[:2]), code, Said(code, None, err).message
            ),
            exit_code=code,
        )
    return Said(code, document, err)
