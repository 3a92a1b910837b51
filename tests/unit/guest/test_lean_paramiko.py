"""paramiko without what harness does not use of it, and with it where another program does."""

from __future__ import annotations

import subprocess
import sys

LATER = """
import sys
import harness.guest.shell
assert not {"invoke", "yaml", "unittest"} & set(sys.modules), sorted(sys.modules)
import paramiko.config
text = 'Match exec "true"\\n  User their-own\\n'
assert paramiko.config.SSHConfig.from_text(text).lookup("guest")["user"] == "their-own"
import invoke
assert callable(invoke.run) and invoke.__file__
"""
EARLIER = """
import invoke
import harness.guest.shell, paramiko.config
assert paramiko.config.invoke is invoke
"""


def test_what_another_program_has_paramiko_do_works_all_the_same():
    """It may have paramiko read its files, and use the library itself, before or after."""
    for code in (LATER, EARLIER):
        subprocess.run([sys.executable, "-P", "-c", code], check=True, timeout=120)
