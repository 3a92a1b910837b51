"""Why a clock agent did not set a clock, in words, and what a person can do about it."""

from __future__ import annotations

import errno
import re

from harness.core.errors import ProbeError

#: How much of an answer is shown.
_SHOWN = 80
HINT_RIGHTS = (
    "setting a clock needs CAP_SYS_TIME in the guest: log in as root, or set sudo = true in "
    "[ssh] where the user may use sudo without a password"
)
HINT_PRIVILEGE = (
    'setting a clock in Windows needs the privilege "Change the system time": log in as a member '
    "of Administrators, or grant it in secpol.msc, Local Policies, User Rights Assignment"
)


def refused(guest: str, problem: str, answer: str) -> ProbeError:
    """Return the error for ``answer``, which is an errno or the words of a program."""
    said, hint = answer.removeprefix("failed ")[:_SHOWN].strip(), None
    if answer.isdecimal() and answer.isascii():
        said = errno.errorcode.get(int(answer), answer)
    if said in ("EPERM", "EACCES") or re.search("not permitted|ermission denied", said):
        hint = HINT_RIGHTS
    elif "SeSystemtimePrivilege" in said or "Win32 error 1314" in said:
        hint = HINT_PRIVILEGE
    return ProbeError(f"{problem}: {said}", guest=guest, hint=hint)
