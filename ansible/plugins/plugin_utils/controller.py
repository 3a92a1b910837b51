# Copyright: the authors of harness
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A command of harness on the controller, and its JSON.

The command is called rather than its Python imported: Ansible's interpreter need not be the one
that harness is installed for, and the command's JSON is a contract; modules of harness are none.
"""

from __future__ import annotations

import json
import subprocess

from ansible.errors import AnsibleError

_LIMIT_S = 120


def answer(words, has):
    """Return the document of a command that went well. Raises AnsibleError, of one line.

    Args:
        words: The command.
        has: A name that such a document has.
    """
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=_LIMIT_S, check=False)
    except (OSError, subprocess.SubprocessError) as error:
        raise AnsibleError(f"{words[0]} on the controller: {error}") from error
    called = " ".join(["harness", *words[1:3]])
    try:
        said = json.loads(done.stdout)
    except ValueError as error:
        last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        raise AnsibleError(f"{called} said no JSON: {last[-500:]}") from error
    if done.returncode or not isinstance(said, dict) or has not in said:
        found = (said.get("error") if isinstance(said, dict) else None) or {}
        hint = " (hint: {})".format(found["hint"]) if found.get("hint") else ""
        raise AnsibleError(f"{called}: {found.get('message')}{hint}")
    return said
